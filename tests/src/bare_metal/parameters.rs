//! The parameters of a bare-metal guest: words after a mark in its file. The build script
//! makes a C macro for each name.

/// The mark.
pub(super) const MAGIC: &str = "minivmm: parameters follow here.";

/// The words' names.
pub(super) const NAMES: [&str; 21] = [
    // Addresses of devices and of memory, from the machine's layout. CAMERA_IRQ is the line's number.
    "SERIAL",
    "EXIT",
    "CAMERA",
    "CAMERA_IRQ",
    "RAM",
    "RAM_END",
    "WINDOW",
    "WINDOW_SIZE",
    // The interrupt controller, if it depends on the machine.
    "GIC_DISTRIBUTOR",
    // Parameters of stream.c.
    "FORMAT",
    "WIDTH",
    "HEIGHT",
    "PLANES",
    "BUFFERS",
    "WARM_UP",
    "MEASURED",
    // The address of the disk, and the parameters of disk.c.
    "DISK",
    "BLOCKS",
    "EPOCH",
    "PREVIOUS",
    "ACKED",
];
