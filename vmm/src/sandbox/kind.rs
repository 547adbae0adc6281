//! The kinds of threads that a confined process has.

/// What the threads of a machine do besides running it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// They serve a debugger.
    pub debugger: bool,
    /// They dump the memory of a guest that panicked.
    pub dump: bool,
}

/// What a thread is for. It decides what the thread may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The event loop and the end of the run: reports are renamed to their names, the API's socket is removed.
    Main,
    /// Runs a vCPU.
    Vcpu,
    /// Serves a device.
    Device,
    /// Reads and writes the disk for the guest's /out.
    Disk,
    /// Talks to the program that serves a device.
    Backend,
    /// Moves the frames of a network device.
    Network,
    /// Moves the data of a vsock.
    Sockets,
    /// Gives memory of the guest back to the host.
    Memory,
    /// Writes a recording.
    Recording,
    /// Unpacks the guest's files into the folder of `--out`.
    Files,
    /// Writes to standard output, standard error or the console log.
    Output,
    /// Writes minivmm's own messages.
    Log,
    /// Reads standard input.
    Input,
    /// Makes PNGs of frames.
    Capture,
    /// Replaces the file of `--metrics`.
    Metrics,
    /// In a lab, connects clients on the host to the machine's sockets.
    Relay,
    /// Ends the process if a part of it does not end.
    Watch,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub(super) const ALL: [Self; 17] = [
        Self::Main,
        Self::Vcpu,
        Self::Device,
        Self::Disk,
        Self::Backend,
        Self::Network,
        Self::Sockets,
        Self::Memory,
        Self::Recording,
        Self::Files,
        Self::Output,
        Self::Log,
        Self::Input,
        Self::Capture,
        Self::Metrics,
        Self::Relay,
        Self::Watch,
    ];

    /// Its name in messages and reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Vcpu => "vCPU",
            Self::Device => "device",
            Self::Disk => "disk",
            Self::Backend => "backend",
            Self::Network => "network",
            Self::Sockets => "sockets",
            Self::Memory => "memory",
            Self::Recording => "recording",
            Self::Files => "files",
            Self::Output => "output",
            Self::Log => "log",
            Self::Input => "input",
            Self::Capture => "capture",
            Self::Metrics => "metrics",
            Self::Relay => "relay",
            Self::Watch => "watch",
        }
    }
}
