//! The camera's channels, as indices.

use super::regs;

/// The number of channels.
pub(super) const CHANNELS: usize = regs::CHANNELS as usize;

/// The number of channels that write frames. They come first.
pub(super) const FRAME_CHANNELS: usize = STATISTICS;

/// The channel of the processed frames.
pub(super) const PROCESSED: usize = regs::CHANNEL_PROCESSED as usize;

/// The channel of the statistics of processed frames.
pub(super) const STATISTICS: usize = regs::CHANNEL_STATISTICS as usize;

/// The channel of the parameters for processed frames.
pub(super) const PARAMS: usize = regs::CHANNEL_PARAMS as usize;
