//! What a device that makes frames lets its machine do: count them out, and look at one.

use std::sync::mpsc::Receiver;

use super::captured::Captured;

/// A device that makes frames.
pub trait FrameSource {
    /// Lets this many frames more begin and then none; for None, every frame begins. A pause of the frame clock loses no frame.
    fn step(&self, frames: Option<u32>);

    /// The next processed frame that is written arrives there; nothing arrives if the device ends before.
    fn capture(&self) -> Receiver<Captured>;
}
