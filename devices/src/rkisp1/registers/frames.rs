//! The life of a frame in the registers: when it begins, what it is made from, and what its end reports.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use media::{
    Phase,
    isp::Rect,
    rkisp1::{Params, Scale, Statistics},
};

use super::{
    paths::{MAIN, PATHS, PathConfig},
    state::Registers,
};
use crate::{
    faults::Event,
    rkisp1::{
        faults::{Begin, End, Stop},
        grf::Grf,
        regs::*,
    },
    sensors::Output,
};

/// What the worker has to do.
#[expect(clippy::large_enum_variant, reason = "a frame allocates nothing")]
pub(in crate::rkisp1) enum Task {
    /// Make a frame.
    Frame(Job),
    /// Wait until this time, or until it is woken.
    WaitUntil(Instant),
    /// Wait until it is woken.
    Wait,
    /// End.
    Off,
}

/// A frame to make.
pub(in crate::rkisp1) struct Job {
    /// The number of the sensor's frame.
    pub(in crate::rkisp1) number: u32,
    /// What the sensor puts out.
    pub(in crate::rkisp1) sensor: Output,
    /// Another lamp on the scene from this frame on, in thousandths.
    pub(in crate::rkisp1) lamp: Option<[u32; 3]>,
    /// Samples go to memory as they come in.
    pub(in crate::rkisp1) is_raw: bool,
    /// The phase of the acquisition window, as the guest programmed it.
    pub(in crate::rkisp1) phase: Phase,
    /// The part of the sensor's frame that is taken in.
    pub(in crate::rkisp1) acquired: Rect,
    /// The part of that which becomes the picture.
    pub(in crate::rkisp1) window: Rect,
    /// What each path does.
    pub(in crate::rkisp1) paths: [Option<PathConfig>; PATHS],
    /// The part of the picture that each path takes; none for all of it.
    pub(in crate::rkisp1) crops: [Option<Rect>; PATHS],
    /// The resizer of each path.
    pub(in crate::rkisp1) scales: [Scale; PATHS],
    /// What goes wrong with it.
    pub(in crate::rkisp1) fault: Option<Begin>,
}

/// How a frame went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::rkisp1) struct Outcome {
    /// Bits of `MI_RIS` for planes that were full, and for a transfer that failed.
    pub(in crate::rkisp1) memory: u32,
    /// Bytes that were written.
    pub(in crate::rkisp1) bytes: u64,
}

/// What goes wrong with the end of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::rkisp1) struct Ending {
    update: Option<Stop>,
    end: Option<End>,
}

impl Ending {
    /// How late the end comes.
    pub(in crate::rkisp1) fn delay(&self) -> Duration {
        match self.end {
            Some(End::Late { milliseconds }) => Duration::from_millis(milliseconds.into()),
            Some(End::LoseFrame | End::LoseMemory) | None => Duration::ZERO,
        }
    }
}

impl Registers {
    /// Says what the worker does now, while the sensor puts out `sensor` and the D-PHY is as `phy` says. The parameters of a frame that
    /// begins go to `params`.
    pub(in crate::rkisp1) fn poll(
        &mut self,
        now: Instant,
        sensor: Option<&Output>,
        phy: &Grf,
        params: &mut Params,
    ) -> Task {
        if self.clock.is_off {
            return Task::Off;
        }
        let Some(sensor) = sensor else {
            self.clock.restart();
            return Task::Wait;
        };
        if self.clock.is_paused || self.clock.steps == Some(0) {
            // The frames of a pause are none of the stream's.
            self.clock.next = None;
            return Task::Wait;
        }
        let next = *self.clock.next.get_or_insert(now + sensor.interval);
        if now < next {
            return Task::WaitUntil(next);
        }
        if self.is_unacknowledged() {
            self.clock.handled_by = None;
            return Task::Wait;
        }
        // The driver acknowledges a frame first, and writes the parameters of the next one then.
        if self.line.is_in_service() {
            let end = *self.clock.handled_by.get_or_insert(now + LONGEST_PAUSE);
            if now < end {
                return Task::WaitUntil(end.min(now + HANDLER_POLL));
            }
        }
        self.clock.handled_by = None;
        // A frame whose time has passed is not received.
        let late = now.duration_since(next).as_nanos() / sensor.interval.as_nanos().max(1);
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.count.late += u64::from(late);
        let number = self.clock.number.wrapping_add(late);
        self.clock.number = number.wrapping_add(1);
        self.clock.next = Some(if late == 0 { next + sensor.interval } else { now + sensor.interval });
        let frame = self.clock.expose(sensor);
        if !self.is_receiving(sensor, phy) {
            self.count.unreceived += 1;
            return Task::WaitUntil(self.clock.next.unwrap_or(now));
        }
        match self.begin(number, frame, params) {
            Some(job) => Task::Frame(job),
            None => Task::WaitUntil(self.clock.next.unwrap_or(now)),
        }
    }

    /// Whether the guest has not yet acknowledged the end of the last frame. The driver expects that a frame begins after it has:
    /// on hardware there is a vertical blanking between them.
    fn is_unacknowledged(&self) -> bool {
        self.get(ISP_RIS) & self.get(ISP_IMSC) & ISP_FRAME != 0
            || self.get(MI_RIS) & self.get(MI_IMSC) & (MI_FRAME_MP | MI_FRAME_SP) != 0
    }

    /// Whether the guest has not yet acknowledged the start of the frame in work. The driver counts frames at their start, and expects
    /// that it sees the start before the end: on hardware the transfer of the lines is between them.
    pub(in crate::rkisp1) fn is_start_unacknowledged(&self) -> bool {
        self.clock.is_busy && !self.is_silent && self.get(ISP_RIS) & self.get(ISP_IMSC) & ISP_V_START != 0
    }

    /// Whether a frame is in work: it has begun, and has neither ended nor been abandoned.
    pub(in crate::rkisp1) fn is_busy(&self) -> bool {
        self.clock.is_busy
    }

    /// Whether what `sensor` sends reaches the ISP.
    fn is_receiving(&self, sensor: &Output, phy: &Grf) -> bool {
        let clocks = ICCL_ISP | ICCL_MI | ICCL_MIPI;
        let lanes = ((self.get(MIPI_CTRL) & MIPI_LANES) >> MIPI_LANES.trailing_zeros()) + 1;
        self.enabled
            && self.get(VI_ICCL) & clocks == clocks
            && self.get(VI_CCL) & CCL_OFF == 0
            && self.get(VI_DPCL) & DPCL_INPUT == DPCL_MIPI
            && self.get(MIPI_CTRL) & MIPI_OUTPUT != 0
            && lanes == u32::from(sensor.lanes)
            && phy.lanes() == u32::from(sensor.lanes)
            && self.get(MIPI_IMG_DATA_SEL) & 0xff == u32::from(sensor.data_type)
    }

    /// Begins a frame. None for one that is lost, by its size or by a fault.
    fn begin(&mut self, number: u32, sensor: Output, params: &mut Params) -> Option<Job> {
        let fault = self.faults.consult(Event::PLAIN).map(|fault| fault.action);
        self.put(MIPI_CUR_DATA_ID, sensor.data_type.into());
        match fault {
            Some(Begin::Ecc) => {
                self.raise(MIPI_RIS, MIPI_ERR_ECC2);
                self.interrupt();
                return None;
            }
            Some(Begin::NoStart) => {}
            Some(Begin::Checksum | Begin::SyncLoss { .. } | Begin::Overflow { .. } | Begin::LineError)
            | None => {
                self.raise(ISP_RIS, ISP_V_START);
            }
        }
        let mode = self.get(ISP_CTRL) & ISP_MODE;
        let is_raw = mode == ISP_MODE_RAW;
        let Some((acquired, window)) = self.windows(sensor.size) else {
            self.interrupt();
            return None;
        };
        if !is_raw && mode != ISP_MODE_BAYER {
            // The other modes take Y'CbCr, which this sensor does not send.
            self.raise(ISP_RIS, ISP_DATA_LOSS);
            self.interrupt();
            return None;
        }
        if matches!(fault, Some(Begin::LineError)) {
            self.held = MIPI_ERR_CTRL;
            self.raise(MIPI_RIS, self.held);
        }
        if is_raw {
            self.interrupt();
        } else {
            self.lens.latch(self.words[ISP_LSC_TABLE_SEL as usize / 4]);
            self.decode_params(params);
            self.interrupt();
        }
        self.clock.is_busy = true;
        if let Some(steps) = &mut self.clock.steps {
            *steps -= 1;
        }
        self.abandon.store(false, Ordering::Relaxed);
        Some(Job {
            number,
            sensor,
            lamp: None,
            is_raw,
            phase: phase(self.get(ISP_ACQ_PROP)),
            acquired,
            window,
            paths: self.path_configs(is_raw),
            crops: std::array::from_fn(|path| self.crop(path)),
            scales: std::array::from_fn(|path| self.scale(path)),
            fault,
        })
    }

    /// The acquisition window in the sensor's frame, and the output window in that. None, with the error reported, if one does not fit.
    fn windows(&mut self, size: [u32; 2]) -> Option<(Rect, Rect)> {
        let rect = |left, top, width, height| Rect {
            left: left & 0x3ffe,
            top: top & 0x3ffe,
            width: width & 0x3ffe,
            height: height & 0x3ffe,
        };
        let get = |offset| self.get(offset);
        let acquired =
            rect(get(ISP_ACQ_H_OFFS), get(ISP_ACQ_V_OFFS), get(ISP_ACQ_H_SIZE), get(ISP_ACQ_V_SIZE));
        let window = rect(get(ISP_OUT_H_OFFS), get(ISP_OUT_V_OFFS), get(ISP_OUT_H_SIZE), get(ISP_OUT_V_SIZE));
        let inner = rect(get(ISP_IS_H_OFFS), get(ISP_IS_V_OFFS), get(ISP_IS_H_SIZE), get(ISP_IS_V_SIZE));
        for (shadow, value) in [
            (ISP_OUT_H_OFFS_SHD, window.left),
            (ISP_OUT_V_OFFS_SHD, window.top),
            (ISP_OUT_H_SIZE_SHD, window.width),
            (ISP_OUT_V_SIZE_SHD, window.height),
            (ISP_IS_H_OFFS_SHD, inner.left),
            (ISP_IS_V_OFFS_SHD, inner.top),
            (ISP_IS_H_SIZE_SHD, inner.width),
            (ISP_IS_V_SIZE_SHD, inner.height),
        ] {
            self.put(shadow, value);
        }
        let fits = |part: &Rect, [width, height]: [u32; 2]| {
            part.width >= SMALLEST
                && part.height >= SMALLEST
                && part.left + part.width <= width
                && part.top + part.height <= height
        };
        let error = if !fits(&acquired, size) {
            ERR_INPUT
        } else if !fits(&window, [acquired.width, acquired.height]) {
            ERR_OUTPUT
        } else if !fits(&inner, [window.width, window.height]) {
            ERR_STABILISER
        } else {
            let stabilised = Rect { left: window.left + inner.left, top: window.top + inner.top, ..inner };
            return Some((acquired, stabilised));
        };
        self.raise(ISP_ERR, error);
        self.raise(ISP_RIS, ISP_PIC_SIZE_ERROR);
        None
    }

    /// The crop of a path; none if it is bypassed.
    fn crop(&mut self, path: usize) -> Option<Rect> {
        let [mode, left, top, width, height] = if path == MAIN {
            [3, DUAL_CROP_M_H_OFFS, DUAL_CROP_M_V_OFFS, DUAL_CROP_M_H_SIZE, DUAL_CROP_M_V_SIZE]
        } else {
            [3 << 2, DUAL_CROP_S_H_OFFS, DUAL_CROP_S_V_OFFS, DUAL_CROP_S_H_SIZE, DUAL_CROP_S_V_SIZE]
        };
        for register in [left, top, width, height] {
            // The shadows lie behind the registers, in the same order.
            self.put(register + (DUAL_CROP_M_H_OFFS_SHD - DUAL_CROP_M_H_OFFS), self.get(register) & 0x1fff);
        }
        let [left, top, width, height] =
            [left, top, width, height].map(|register| self.get(register) & 0x1ffe);
        (self.get(DUAL_CROP_CTRL) & mode != 0).then_some(Rect { left, top, width, height })
    }

    /// The resizer of a path.
    fn scale(&mut self, path: usize) -> Scale {
        let base = if path == MAIN { MRSZ_CTRL } else { SRSZ_CTRL };
        for offset in (0..MRSZ_SCALE_LUT_ADDR - MRSZ_CTRL).step_by(4) {
            self.put(base + offset + (MRSZ_CTRL_SHD - MRSZ_CTRL), self.get(base + offset));
        }
        self.decode_scale(base, &self.weights[path])
    }

    /// The memory has the frame in work. Says what goes wrong with its end.
    pub(in crate::rkisp1) fn written(&mut self) -> Ending {
        if !self.clock.is_busy {
            return Ending::default();
        }
        Ending {
            update: self.faults.consult(Event::PLAIN).map(|fault| fault.action),
            end: self.faults.consult(Event::PLAIN).map(|fault| fault.action),
        }
    }

    /// The frame of `job` has ended, with what goes wrong then.
    pub(in crate::rkisp1) fn finished(
        &mut self,
        job: &Job,
        outcome: Outcome,
        ending: &Ending,
        statistics: &Statistics,
    ) {
        // A frame that was abandoned meanwhile reports nothing.
        if !std::mem::take(&mut self.clock.is_busy) {
            self.count.abandoned += 1;
            return;
        }
        let written = self.shadows.each_ref().map(|shadow| shadow.enables != 0);
        let mut automatic = self.automatic_paths();
        if matches!(ending.update, Some(Stop::Stuck)) {
            automatic = [false; PATHS];
        }
        self.latch_paths(automatic);
        self.put(MI_BYTE_CNT, u32::try_from(outcome.bytes).unwrap_or(u32::MAX) & 0x1fff_ffff);
        self.put(ISP_FRAME_COUNT, self.get(ISP_FRAME_COUNT).wrapping_add(1));
        let mut memory = outcome.memory;
        for (is_written, bit) in written.into_iter().zip([MI_FRAME_MP, MI_FRAME_SP]) {
            memory |= if is_written { bit } else { 0 };
        }
        let mut frame = ISP_FRAME | ISP_FRAME_IN;
        if !job.is_raw {
            frame |= self.take_statistics(statistics);
        }
        let mut receiver = MIPI_FRAME_END;
        match job.fault {
            Some(Begin::Checksum) => receiver |= MIPI_ERR_CS,
            Some(Begin::SyncLoss { .. }) => receiver |= MIPI_ERR_SOT_SYNC,
            Some(Begin::Overflow { .. }) => receiver |= MIPI_FIFO_OVERFLOW,
            Some(Begin::NoStart | Begin::Ecc | Begin::LineError) | None => {}
        }
        if matches!(job.fault, Some(Begin::SyncLoss { .. } | Begin::Overflow { .. })) {
            frame |= ISP_PIC_SIZE_ERROR;
            self.raise(ISP_ERR, ERR_INPUT);
        }
        self.held = 0;
        match ending.end {
            Some(End::LoseFrame) => frame &= !ISP_FRAME,
            Some(End::LoseMemory) => memory &= !(MI_FRAME_MP | MI_FRAME_SP),
            Some(End::Late { .. }) | None => {}
        }
        self.raise(MI_RIS, memory);
        self.raise(ISP_RIS, frame);
        self.raise(MIPI_RIS, receiver);
        self.count.frames += 1;
        self.count.bytes += outcome.bytes;
        self.count.bus_errors += u64::from(outcome.memory & MI_BUS_ERROR != 0);
        self.interrupt();
    }

    /// Holds the sensor's clock, or lets it go on.
    pub(in crate::rkisp1) fn set_paused(&mut self, is_paused: bool) {
        self.clock.is_paused = is_paused;
    }

    /// Lets this many frames more begin; none for all.
    pub(in crate::rkisp1) fn step(&mut self, frames: Option<u32>) {
        self.clock.steps = frames;
    }

    /// Ends the worker.
    pub(in crate::rkisp1) fn shut_down(&mut self) {
        self.clock.is_off = true;
        self.switch_off();
    }
}

/// The phase that `ISP_ACQ_PROP` says.
fn phase(property: u32) -> Phase {
    match property >> 3 & 3 {
        0 => Phase::Rggb,
        1 => Phase::Grbg,
        2 => Phase::Gbrg,
        _ => Phase::Bggr,
    }
}

/// How long after the guest's last store a frame waits for the end of the interrupt of the last one. A guest that polls does not end
/// it.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The time between two looks at an interrupt that has not ended.
const HANDLER_POLL: Duration = Duration::from_micros(200);

/// The smallest width and height of a picture (`RKISP1_ISP_MIN_WIDTH` of the driver).
const SMALLEST: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{faults::FaultHandle, irq::IrqLine};

    #[test]
    fn the_end_of_a_frame_waits_for_the_guest_to_see_its_start() {
        let mut registers = Registers::new(IrqLine::new().unwrap(), FaultHandle::none());
        registers.clock.is_busy = true;
        registers.raise(ISP_RIS, ISP_V_START);
        assert!(!registers.is_start_unacknowledged(), "the guest does not ask for it");
        registers.guest_writes(ISP_IMSC, ISP_V_START);
        assert!(registers.is_start_unacknowledged());
        registers.guest_writes(ISP_ICR, ISP_V_START);
        assert!(!registers.is_start_unacknowledged());
        registers.raise(ISP_RIS, ISP_V_START);
        registers.switch_off();
        assert!(!registers.is_start_unacknowledged(), "the frame is abandoned");
    }
}
