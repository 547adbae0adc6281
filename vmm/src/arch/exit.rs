//! Why a vCPU stopped the machine.

/// Why a vCPU stopped the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VcpuEnd {
    /// Every CPU of the guest halted with interrupts off.
    Halted,
    /// The guest powered off, by the firmware's interface.
    PoweredOff,
    /// The guest asked for a reset, or fell into a triple fault.
    Reset,
    /// KVM cannot run the guest any further.
    Failed(String),
}
