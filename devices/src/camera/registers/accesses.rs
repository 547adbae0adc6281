//! The guest's accesses: the value of a read, and the effect of a write.

use std::time::Instant;

use super::state::{RegisterFile, bit};
use crate::{
    camera::{
        channel_registers::Stream,
        channels::CHANNELS,
        counters::Counters,
        regs::{self, high, low},
        spec::Timing,
    },
    faults::RegisterWrite,
};
use media::{MAX_PLANES, Pattern};

/// The bits of all channels.
pub(super) const CHANNEL_BITS: u32 = (1 << regs::CHANNELS) - 1;

/// All events.
pub(super) const EVENTS: u32 = regs::IRQ_FRAME_START
    | regs::IRQ_OVERFLOW
    | regs::IRQ_CONFIG_ERROR
    | regs::IRQ_BUS_ERROR
    | regs::IRQ_SYNC_LOSS
    | regs::IRQ_UNDERRUN
    | regs::IRQ_PARAMS_ERROR
    | (CHANNEL_BITS * (regs::IRQ_DONE | regs::IRQ_LATCHED | regs::IRQ_STOPPED));

/// The field of CAPS for the number of planes.
#[expect(clippy::cast_possible_truncation, reason = "three planes")]
const MAX_PLANES_BITS: u32 = (MAX_PLANES as u32) << 4;

impl RegisterFile {
    /// Reads a register. Offsets without a register read as zero.
    pub(in crate::camera) fn read(&self, offset: u32) -> u32 {
        let state = &self.state;
        match offset {
            regs::ID => regs::ID_VALUE,
            regs::VERSION => regs::VERSION_VALUE,
            regs::CAPS => {
                let sensor = bit(self.has_isp(), regs::CAPS_SENSOR | regs::CAPS_ISP);
                let auto = bit(self.is_automatic(), regs::CAPS_AUTO);
                regs::CHANNELS | MAX_PLANES_BITS | self.spec.dma.address_bits << 8 | sensor | auto
            }
            regs::SIZE_MIN => regs::SIZE_MIN_VALUE,
            regs::SIZE_MAX => regs::SIZE_MAX_VALUE,
            regs::CTRL => state.bits(regs::CTRL_ENABLE, |registers| registers.enable),
            regs::STATUS => {
                let active = (0..).zip(self.job.map_or([None; CHANNELS], |job| job.configs));
                state.bits(regs::STATUS_STREAMING, |registers| registers.stream != Stream::Idle)
                    | state.bits(regs::STATUS_PENDING, |registers| registers.pending.is_some())
                    | active.map(|(n, config)| bit(config.is_some(), regs::STATUS_ACTIVE << n)).sum::<u32>()
            }
            regs::TIMING => bit(self.spec.timing == Timing::Stall, regs::TIMING_STALL),
            regs::IRQ_RAW => state.irq_raw,
            regs::IRQ_ENABLE => state.irq_enable,
            regs::IRQ_STATUS => state.irq_raw & state.irq_enable,
            regs::ERR_ADDR_LO => low(state.error_address),
            regs::ERR_ADDR_HI => high(state.error_address),
            regs::ERR_INFO => state.error_info,
            regs::FRAME_INTERVAL => {
                let microseconds = state.interval().as_nanos().saturating_add(500) / 1000;
                u32::try_from(microseconds).unwrap_or(u32::MAX)
            }
            regs::PATTERN => state.scene.pattern as u32,
            regs::FLIP => {
                bit(state.scene.flip_horizontal, regs::FLIP_HORIZONTAL)
                    | bit(state.scene.flip_vertical, regs::FLIP_VERTICAL)
            }
            regs::FRAME_SEQUENCE => state.sequence,
            regs::SENSOR_LINE_LENGTH..=regs::SENSOR_BINNING => {
                state.sensor.map_or(0, |sensor| sensor.read(offset))
            }
            regs::FRAMES => self.since_reset(|counters| counters.frames),
            regs::DROPS => self.since_reset(|counters| counters.drops),
            regs::OVERFLOWS => self.since_reset(|counters| counters.overflows),
            regs::BUS_ERRORS => self.since_reset(|counters| counters.bus_errors),
            regs::SYNC_LOSSES => self.since_reset(|counters| counters.sync_losses),
            regs::CONFIG_ERRORS => self.since_reset(|counters| counters.config_errors),
            regs::IRQS => self.since_reset(|counters| counters.irqs),
            regs::IRQS_LATE => self.since_reset(|counters| counters.irqs_late),
            _ => channel_register(offset).map_or(0, |(n, register)| state.channels[n].read(register)),
        }
    }

    /// Writes a register. True if the worker may have work now.
    pub(in crate::camera) fn write(&mut self, offset: u32, value: u32, now: Instant) -> bool {
        match offset {
            regs::CTRL if value & regs::CTRL_RESET != 0 => {
                self.faults.handle().was_reset();
                self.reset();
            }
            regs::CTRL => self.enable(value, now),
            regs::IRQ_ENABLE => {
                let before = self.read(regs::IRQ_STATUS);
                self.state.irq_enable = value & EVENTS;
                self.raise_if_gained(before);
                return false;
            }
            regs::IRQ_STATUS => {
                self.state.irq_raw &= !value;
                let events = self.publish_held(now);
                self.event(events);
            }
            regs::FRAME_INTERVAL => {
                self.state.set_interval(value);
                self.change_clock(now);
            }
            regs::SENSOR_EXPOSURE | regs::SENSOR_ANALOGUE_GAIN if self.is_automatic() => return false,
            regs::SENSOR_LINE_LENGTH..=regs::SENSOR_BINNING => {
                if let Some(sensor) = &mut self.state.sensor {
                    sensor.write(offset, value);
                    self.change_clock(now);
                }
            }
            regs::PATTERN => {
                // An unknown pattern changes nothing.
                let scene = &mut self.state.scene;
                scene.pattern = Pattern::from_number(value).unwrap_or(scene.pattern);
                return false;
            }
            regs::FLIP => {
                self.state.scene.flip_horizontal = value & regs::FLIP_HORIZONTAL != 0;
                self.state.scene.flip_vertical = value & regs::FLIP_VERTICAL != 0;
                return false;
            }
            _ => {
                return match channel_register(offset) {
                    // Without an ISP frames are not scaled.
                    Some((_, regs::CH_INPUT_SIZE..=regs::CH_CROP_SIZE)) if !self.has_isp() => false,
                    Some((n, register)) => self.state.channels[n].write(register, value),
                    None => false,
                };
            }
        }
        true
    }

    /// Reads a register for the guest, with the faults of a plan.
    pub(in crate::camera) fn guest_reads(&mut self, register: u32) -> u32 {
        let value = self.faults.handle().read_register(register, self.read(register));
        if self.faults.storms(register) {
            self.raise();
        }
        value
    }

    /// Writes a register for the guest, with the faults of a plan. True if the worker may have work now.
    pub(in crate::camera) fn guest_writes(&mut self, register: u32, value: u32, now: Instant) -> bool {
        let RegisterWrite { value, spurious } = self.faults.handle().write_register(register, value);
        let wakes = value.is_some_and(|value| self.write(register, value, now));
        if spurious {
            self.raise();
        }
        if self.faults.repeats(register) {
            self.raise();
        }
        wakes
    }

    /// The value of a counter's register, which wraps.
    pub(super) fn since_reset(&self, counter: impl Fn(&Counters) -> u64) -> u32 {
        low(counter(&self.counters) - counter(&self.counters_at_reset))
    }
}

/// The channel whose register is at `offset`, and the offset of the same register of channel 0.
fn channel_register(offset: u32) -> Option<(usize, u32)> {
    let at = offset.checked_sub(regs::CH_FORMAT)?;
    let channel = (at / regs::CHANNEL_SPACING) as usize;
    (channel < CHANNELS).then_some((channel, regs::CH_FORMAT + at % regs::CHANNEL_SPACING))
}
