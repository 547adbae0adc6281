//! What those who listen to the events of a machine know.

/// The state that was told last. An event is a change of it.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) booted: bool,
    pub(super) paused: bool,
    pub(super) panicked: bool,
    /// Whether a device has written to each window; none while nobody listens.
    pub(super) written: Option<Vec<bool>>,
}
