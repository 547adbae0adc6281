//! The camera's thread: waits for the sensor's clock and the guest, exposes the sensor, and has the ISP process what it reads.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::Instant,
};

use media::{
    Captured, RawSource,
    rkisp1::{Frame, Isp, Params, Statistics},
    sensor,
};

use super::{
    faults::Begin,
    grf::Grf,
    registers::{Ending, Job, Outcome, Registers, Task},
    writer::Writer,
};
use crate::{
    dma::DmaPort,
    i2c::rk3x::Controller,
    irq::IrqLine,
    sensors::{ImageSensor, Output},
};

/// Everything that the guest programs.
pub(super) struct State {
    pub(super) registers: Registers,
    pub(super) grf: Grf,
    pub(super) i2c: Controller<Box<dyn ImageSensor>>,
    /// The sensor's address on the bus.
    sensor: u8,
    i2c_line: IrqLine,
    /// Another lamp for the frames that begin from now on, in thousandths.
    pub(super) lamp: Option<[u32; 3]>,
    /// The receivers of the next frame of the main path.
    pub(super) viewers: Vec<Sender<Captured>>,
}

impl State {
    pub(super) fn new(
        registers: Registers,
        i2c: Controller<Box<dyn ImageSensor>>,
        sensor: u8,
        i2c_line: IrqLine,
    ) -> Self {
        Self { registers, grf: Grf::default(), i2c, sensor, i2c_line, lamp: None, viewers: Vec::new() }
    }

    /// The guest writes a register of the I2C controller. True if the sensor may have changed.
    pub(super) fn i2c_store(&mut self, offset: u32, value: u32) -> bool {
        let before = self.output().map(|output| output.interval);
        self.i2c.store(offset, value);
        self.i2c_line.set(self.i2c.is_interrupting());
        before != self.output().map(|output| output.interval)
    }

    /// Puts everything into the state after power-on.
    pub(super) fn reset(&mut self) {
        self.registers.reset();
        self.grf = Grf::default();
        self.i2c.reset();
        self.i2c_line.set(self.i2c.is_interrupting());
    }

    /// What the sensor puts out now.
    pub(super) fn output(&self) -> Option<Output> {
        self.i2c.bus().chip(self.sensor)?.output()
    }

    /// Says what the worker does at the time `now`.
    pub(super) fn poll(&mut self, now: Instant, params: &mut Params) -> Task {
        let output = self.output();
        let mut task = self.registers.poll(now, output.as_ref(), &self.grf, params);
        if let Task::Frame(job) = &mut task {
            job.lamp = self.lamp.take();
        }
        task
    }
}

/// What the vCPU threads and the worker share.
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), wake: Condvar::new() }
    }

    /// The state. The caller holds the lock for a short time only.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the worker look at the state.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a frame to make; none if the camera was switched off.
    fn next_job(&self, params: &mut Params) -> Option<Job> {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            state = match state.poll(now, params) {
                Task::Frame(job) => return Some(job),
                Task::Off => return None,
                Task::Wait => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Task::WaitUntil(then) => {
                    let wait = then.saturating_duration_since(now);
                    self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Waits for the end of the frame in work, which the memory has: until the guest has acknowledged its start, and until a late end
    /// comes. A frame that is abandoned meanwhile ends at once.
    fn await_end(&self) -> Ending {
        let state = self.state();
        let is_pending = |state: &mut State| state.registers.is_start_unacknowledged();
        let mut state = self.wake.wait_while(state, is_pending).unwrap_or_else(PoisonError::into_inner);
        let ending = state.registers.written();
        let delay = ending.delay();
        if !delay.is_zero() {
            let is_busy = |state: &mut State| state.registers.is_busy();
            drop(self.wake.wait_timeout_while(state, delay, is_busy).unwrap_or_else(PoisonError::into_inner));
        }
        ending
    }
}

/// What makes the frames.
pub(super) struct Worker {
    source: RawSource,
    dma: DmaPort,
    isp: Isp,
    writer: Writer,
    pub(super) params: Params,
    statistics: Statistics,
    abandon: Arc<AtomicBool>,
    /// A line of the sensor.
    line: Vec<u16>,
}

impl Worker {
    pub(super) fn new(source: RawSource, dma: DmaPort, abandon: Arc<AtomicBool>) -> Self {
        Self {
            source,
            dma,
            isp: Isp::default(),
            writer: Writer::default(),
            params: Params::default(),
            statistics: Statistics::default(),
            abandon,
            line: Vec::new(),
        }
    }

    /// Makes frames until the camera is switched off.
    pub(super) fn run(mut self, shared: &Shared) {
        while let Some(job) = shared.next_job(&mut self.params) {
            let outcome = self.make(&job);
            let ending = shared.await_end();
            self.report(shared, &job, outcome, &ending);
        }
    }

    /// Makes the frame of `job`. It holds no lock meanwhile.
    pub(super) fn make(&mut self, job: &Job) -> Outcome {
        if let Some(lamp) = job.lamp {
            self.source.set_lamp(lamp);
        }
        if self.source.expose(&job.sensor.settings, job.sensor.phase, job.number, &self.abandon) {
            self.process(job)
        } else {
            Outcome::default()
        }
    }

    /// Reports the end of the frame of `job`.
    pub(super) fn report(&self, shared: &Shared, job: &Job, outcome: Outcome, ending: &Ending) {
        let mut state = shared.state();
        state.registers.finished(job, outcome, ending, &self.statistics);
        let viewers = if state.viewers.is_empty() { Vec::new() } else { std::mem::take(&mut state.viewers) };
        drop(state);
        if !viewers.is_empty() {
            self.show(job, viewers, shared);
        }
    }

    /// Reads the sensor, and writes what comes out of the ISP.
    fn process(&mut self, job: &Job) -> Outcome {
        let Self { source, dma, isp, writer, params, statistics, abandon, line } = self;
        // A receiver that lost synchronisation or data passes no more lines on.
        let lines = match job.fault {
            Some(Begin::SyncLoss { lines } | Begin::Overflow { lines }) => lines,
            _ => u32::MAX,
        };
        let mut read = |y: u32, samples: &mut [u16]| read_line(source, job, line, y, samples);
        let mut writing = writer.begin(job, dma);
        if job.is_raw {
            let mut samples = std::mem::take(&mut writing.samples);
            samples.resize(job.acquired.width as usize, 0);
            let columns = job.window.left as usize..(job.window.left + job.window.width) as usize;
            for y in job.window.top..(job.window.top + job.window.height).min(lines) {
                if abandon.load(Ordering::Relaxed) {
                    break;
                }
                read(y, &mut samples);
                writing.raw_line(&samples[columns.clone()], job.sensor.bits);
            }
            writing.samples = samples;
        } else {
            let frame = Frame {
                size: [job.acquired.width, job.acquired.height],
                phase: job.phase,
                window: job.window,
            };
            let first = job.window.top;
            let mut write = |y: u32, line: &media::rkisp1::Line<'_>| {
                if first + y < lines {
                    writing.line(y, line);
                }
            };
            isp.process(&frame, params, &mut read, &mut write, statistics, abandon);
        }
        writing.finish()
    }

    /// Sends the frame of the main path that was just written to `viewers`, or keeps them for the next one if it cannot be shown.
    fn show(&self, job: &Job, viewers: Vec<Sender<Captured>>, shared: &Shared) {
        match self.writer.captured(job, &self.dma.without_faults()) {
            Some(captured) => {
                for viewer in viewers {
                    // A receiver that is gone does not matter.
                    let _ = viewer.send(captured.clone());
                }
            }
            None => shared.state().viewers.extend(viewers),
        }
    }
}

/// Reads line `y` of the acquisition window into `samples`, of 12 bits with those of the sensor at the top. `line` is a buffer.
fn read_line(source: &RawSource, job: &Job, line: &mut Vec<u16>, y: u32, samples: &mut [u16]) {
    let Output { size, bits, phase, settings, test_pattern, .. } = &job.sensor;
    let y = job.acquired.top + y;
    line.resize(size[0] as usize, 0);
    match test_pattern {
        // Patterns have 10 bits.
        Some(pattern) => {
            source.read_line(settings, job.number, y, line);
            line.iter_mut().for_each(|sample| *sample >>= sensor::BITS - 10);
            pattern.line(y, *phase, line);
            line.iter_mut().for_each(|sample| *sample <<= sensor::BITS - 10);
        }
        None => source.read_line(settings, job.number, y, line),
    }
    let unused = sensor::BITS.saturating_sub(*bits);
    let left = job.acquired.left as usize;
    for (sample, from) in samples.iter_mut().zip(&line[left..]) {
        *sample = from >> unused << unused;
    }
}
