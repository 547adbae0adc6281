//! The points at which a camera consults a plan of faults, and the actions of each.

use crate::faults::{BITS, SEVERAL, SIGNED, UNSIGNED, fault_point};

fault_point! {
    /// The sensor is about to send a frame: one event for each, except for those that a lost link takes.
    pub(in crate::camera) enum SensorLink = "sensor.link" [frame, tick] {
        /// The link is lost for this number of frames; `IRQ_SYNC_LOSS` is set at the first.
        LinkLoss { frames: u32 in SEVERAL } = "link-loss",
        /// The sensor's number of the frame jumps by this much.
        Skip { frames: u32 in SEVERAL } = "skip",
    }
}

fault_point! {
    /// A frame begins in the device: one event for each that the sensor sends.
    pub(in crate::camera) enum FrameStart = "frame.start" [frame, moment("frame")] {
        /// The frame stays in work until the device is reset.
        Stuck = "stuck",
        /// The registers take their reset values.
        Reset = "reset",
        /// The interrupt is raised with no event.
        Spurious = "spurious",
        /// From the next frame on, the sensor's clock, in `CH_DONE_TIME_*`, is fast by this many parts per million, or slow if
        /// it is negative.
        Drift { ppm: i64 in -999_999..=1_000_000 } = "drift",
    }
}

fault_point! {
    /// The device is about to take a buffer of parameters.
    pub(in crate::camera) enum Params = "params" [frame] {
        /// The device reports the parameters as taken, and does not take them.
        Drop = "drop",
        /// This number of bits of the parameters are read wrongly.
        Flip { bits: u32 in BITS } = "flip",
    }
}

fault_point! {
    /// A channel is about to write its frame: one event for each frame of a channel.
    pub(in crate::camera) enum FrameDma = "frame.dma" [frame, channel, begin("frame")] {
        /// The line buffer overflows in the middle of the frame: the frame is lost, and `IRQ_OVERFLOW` is set.
        Overflow = "overflow",
        /// The bus refuses the frame's first address: the frame is lost, and `IRQ_BUS_ERROR` is set.
        BusError = "bus-error",
        /// The frame is written this many bytes further up, or down if it is negative, anywhere in RAM.
        Offset { bytes: i64 in SIGNED } = "offset",
        /// Lines lie this many bytes further apart, or nearer if it is negative, anywhere in RAM.
        Stride { bytes: i64 in SIGNED } = "stride",
        /// The frame is written to the buffer of the channel's previous frame.
        Previous = "previous",
        /// This number of bits of the frame are flipped.
        Flip { bits: u32 in BITS } = "flip",
        /// Only this number of lines are written, and `CH_DONE_BYTES` reports no more.
        Short { lines: u32 in UNSIGNED } = "short",
        /// Only this number of lines are written, and nothing reports it; 0 leaves the buffer as it was.
        Torn { lines: u32 in UNSIGNED } = "torn",
        /// The sensor sends this number of lines more: they are written, and `CH_DONE_BYTES` reports them, if `CH_LEN*` of the
        /// last plane has room; else the frame is lost, and `IRQ_OVERFLOW` is set.
        Long { lines: u32 in SEVERAL } = "long",
        /// The channel's previous frame is written again.
        Duplicate = "duplicate",
        /// The device reports the frame before it writes it.
        Early = "early",
        /// The first two planes are exchanged.
        SwapPlanes = "swap-planes",
    }
}

fault_point! {
    /// A line of the first plane is written: one event for each, from the top, of each frame that no rule of frame.dma changes.
    pub(in crate::camera) enum FrameLine = "frame.line" [frame, channel] {
        /// This number of bits of the line are flipped.
        Flip { bits: u32 in BITS } = "flip",
        /// The line above is written again instead.
        Duplicate = "duplicate",
        /// The line is zero.
        Zero = "zero",
    }
}

fault_point! {
    /// The device is about to write the statistics of a frame.
    pub(in crate::camera) enum Stats = "stats" [frame] {
        /// The device reports the statistics as written, and does not write them: the buffer stays as it was.
        Drop = "drop",
        /// The previous statistics are written again.
        Duplicate = "duplicate",
        /// This number of bits of the statistics are flipped.
        Flip { bits: u32 in BITS } = "flip",
        /// The statistics are zero.
        Zero = "zero",
    }
}

fault_point! {
    /// A frame of a channel is written, and `CH_DONE_*` is about to report it.
    pub(in crate::camera) enum FrameEnd = "frame.end" [frame, channel, end("done")] {
        /// `CH_DONE_TIME_*` is wrong by this much, backwards if it is negative.
        Timestamp { nanoseconds: i64 in SIGNED } = "timestamp",
        /// `CH_DONE_SEQUENCE` is wrong by this much.
        Sequence { add: i64 in SIGNED } = "sequence",
    }
}

fault_point! {
    /// A channel's `IRQ_DONE` is about to raise the interrupt: one event for each frame of a channel.
    pub(in crate::camera) enum Irq = "irq" [frame, channel] {
        /// The interrupt is not raised.
        Lose = "lose",
        /// The interrupt is raised only with that of the channel's frame this number of frames later.
        Late { frames: u32 in SEVERAL } = "late",
        /// The interrupt is raised a second time after the guest writes `IRQ_STATUS`.
        Duplicate = "duplicate",
        /// The interrupt is raised again at each of this number of reads of `IRQ_STATUS`.
        Storm { count: u32 in 1..=1_000_000 } = "storm",
    }
}
