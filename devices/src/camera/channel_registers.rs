//! The registers of a channel: the configuration of the next frame, and the report on the last one.

use super::{
    frame_config::FrameConfig,
    regs::{self, high, low},
    uapi::ParamsFault,
};

/// The number of words from CH_FORMAT to CH_CROP_SIZE, with the unused one.
const REGISTERS: usize = ((regs::CH_CROP_SIZE - regs::CH_FORMAT) / 4 + 1) as usize;

/// The unused word between the strides and the addresses.
const HOLE: u32 = regs::CH_STRIDE2 + 4;

/// Whether a channel takes part in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stream {
    #[default]
    Idle,
    Streaming,
    /// CTRL_ENABLE was cleared while its frame was in work or held back.
    Stopping,
}

/// The report on a frame in CH_DONE_*.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) address: u64,
    pub(super) bytes: u32,
    pub(super) sequence: u32,
    /// Start of frame, in nanoseconds since the sensor started.
    pub(super) time: u64,
    /// The fault of a buffer of parameters.
    pub(super) fault: ParamsFault,
}

/// The registers of a channel. Their default is the state after a reset.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ChannelRegisters {
    pub(super) enable: bool,
    pub(super) stream: Stream,
    shadow: [u32; REGISTERS],
    pub(super) pending: Option<FrameConfig>,
    pub(super) done: Done,
    /// The report on a frame that was finished before the guest acknowledged the last one. It moves to `done` then.
    pub(super) held: Option<Done>,
    frames: u32,
    drops: u32,
}

impl ChannelRegisters {
    /// Reads a register, given by its offset in channel 0.
    pub(super) fn read(&self, register: u32) -> u32 {
        match register {
            regs::CH_FORMAT..=regs::CH_CROP_SIZE if register.is_multiple_of(4) => {
                self.shadow[index(register)]
            }
            regs::CH_DONE_ADDR_LO => low(self.done.address),
            regs::CH_DONE_ADDR_HI => high(self.done.address),
            regs::CH_DONE_BYTES => self.done.bytes,
            regs::CH_DONE_SEQUENCE => self.done.sequence,
            regs::CH_DONE_TIME_LO => low(self.done.time),
            regs::CH_DONE_TIME_HI => high(self.done.time),
            regs::CH_DONE_ERROR => self.done.fault.reason << 16 | u32::from(self.done.fault.kind),
            regs::CH_DONE_ERROR_BLOCK => self.done.fault.block,
            regs::CH_DONE_ERROR_OFFSET => self.done.fault.offset,
            regs::CH_FRAMES => self.frames,
            regs::CH_DROPS => self.drops,
            _ => 0,
        }
    }

    /// Writes a register, given by its offset in channel 0. True if the worker may have work now.
    pub(super) fn write(&mut self, register: u32, value: u32) -> bool {
        match register {
            regs::CH_COMMIT => {
                if value & 1 != 0 {
                    self.pending = Some(self.next_frame());
                }
                value & 1 != 0
            }
            regs::CH_FORMAT..=regs::CH_CROP_SIZE if register.is_multiple_of(4) && register != HOLE => {
                self.shadow[index(register)] = value;
                false
            }
            _ => false,
        }
    }

    /// Whether the channel can take part in a frame that begins now.
    pub(super) fn is_ready(&self) -> bool {
        self.stream == Stream::Streaming && self.pending.is_some() && self.held.is_none()
    }

    /// Takes the pending configuration, if the channel is ready.
    pub(super) fn latch(&mut self) -> Option<FrameConfig> {
        if self.is_ready() { self.pending.take() } else { None }
    }

    /// Counts a finished frame, and holds its report back until the last one is acknowledged.
    pub(super) fn hold(&mut self, done: Done) {
        if done.fault.reason == 0 {
            self.frames = self.frames.wrapping_add(1);
        } else {
            self.dropped(1);
        }
        self.held = Some(done);
    }

    pub(super) fn dropped(&mut self, frames: u32) {
        self.drops = self.drops.wrapping_add(frames);
    }

    fn next_frame(&self) -> FrameConfig {
        let get = |register: u32| self.shadow[index(register)];
        let wide = |low| u64::from(get(low)) | u64::from(get(low + 4)) << 32;
        let pair = |register| [get(register) & 0xffff, get(register) >> 16];
        let [width, height] = pair(regs::CH_SIZE);
        FrameConfig {
            fourcc: get(regs::CH_FORMAT),
            width,
            height,
            strides: [regs::CH_STRIDE0, regs::CH_STRIDE1, regs::CH_STRIDE2].map(get),
            addresses: [regs::CH_ADDR0_LO, regs::CH_ADDR1_LO, regs::CH_ADDR2_LO].map(wide),
            lengths: [regs::CH_LEN0, regs::CH_LEN1, regs::CH_LEN2].map(get),
            input_size: pair(regs::CH_INPUT_SIZE),
            crop_position: pair(regs::CH_CROP_POSITION),
            crop_size: pair(regs::CH_CROP_SIZE),
        }
    }
}

fn index(register: u32) -> usize {
    ((register - regs::CH_FORMAT) / 4) as usize
}
