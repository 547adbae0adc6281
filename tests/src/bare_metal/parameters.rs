//! What a bare-metal guest is told of its machine and its work: the words behind a mark in its file. The build script
//! makes a C macro of each name.

/// The mark.
pub(super) const MAGIC: &str = "minivmm: parameters follow here.";

/// The words' names.
pub(super) const NAMES: [&str; 16] = [
    // Addresses of devices and of memory, from the machine's layout. CAMERA_IRQ is the line's number.
    "SERIAL",
    "EXIT",
    "CAMERA",
    "CAMERA_IRQ",
    "RAM",
    "RAM_END",
    "WINDOW",
    "WINDOW_SIZE",
    // Of the interrupt controller, where it is not the same in every machine.
    "GIC_DISTRIBUTOR",
    // What stream.c does.
    "FORMAT",
    "WIDTH",
    "HEIGHT",
    "PLANES",
    "BUFFERS",
    "WARM_UP",
    "MEASURED",
];
