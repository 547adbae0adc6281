//! The configuration of one frame of a channel, as the guest programmed it.

use media::MAX_PLANES;

/// The values of a channel's registers (`CH_*`) at a commit. Nothing is checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FrameConfig {
    pub(super) fourcc: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) strides: [u32; MAX_PLANES],
    pub(super) addresses: [u64; MAX_PLANES],
    pub(super) lengths: [u32; MAX_PLANES],
    /// Width and height of the sensor's output. 0 means the size of the frame.
    pub(super) input_size: [u32; 2],
    pub(super) crop_position: [u32; 2],
    /// Width and height. 0 means the whole input.
    pub(super) crop_size: [u32; 2],
}
