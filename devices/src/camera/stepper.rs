//! Does the work of a camera's thread and clock, one step at a time.

use std::{sync::Arc, time::Duration};

use super::{
    job::Job,
    registers::Task,
    worker::{Shared, Worker},
};

/// Passes the time of a camera that [`Camera::stepped`](super::Camera::stepped) built, and makes its frames.
pub struct Stepper {
    shared: Arc<Shared>,
    worker: Worker,
    /// The frame in work.
    job: Option<Job>,
}

impl Stepper {
    pub(super) fn new(shared: Arc<Shared>, worker: Worker) -> Self {
        Self { shared, worker, job: None }
    }

    /// Lets this time pass. No frame begins yet.
    pub fn pass(&self, time: Duration) {
        self.shared.set_now(self.shared.now() + time);
    }

    /// Begins the next frame, if one is due and none is in work. Returns whether a frame is in work: what the guest does now, it
    /// does while the camera writes it.
    pub fn begin(&mut self) -> bool {
        if self.job.is_none() {
            let now = self.shared.now();
            self.job = match self.shared.registers().poll(now) {
                Task::Frame(job) => Some(job),
                Task::Wait | Task::WaitUntil(_) | Task::Off => None,
            };
        }
        self.job.is_some()
    }

    /// Makes the frame in work, if there is one.
    pub fn finish(&mut self) {
        if let Some(job) = self.job.take() {
            self.worker.make(&self.shared, job);
        }
    }

    /// Makes all frames that are due.
    pub fn run(&mut self) {
        while self.begin() {
            self.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

    use super::*;
    use crate::{
        bus::BusDevice as _,
        camera::{Camera, regs},
        dma::DmaPort,
        faults::FaultHandle,
        irq::IrqLine,
    };
    use media::{Layout, stamp};

    #[test]
    fn a_frame_begins_when_its_time_has_come_and_is_written_when_it_is_finished() {
        let grey = u32::from_le_bytes(*b"GREY");
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let dma = DmaPort::unrestricted(memory.clone());
        let (spec, irq) = ("fps=100".parse().unwrap(), IrqLine::new().unwrap());
        let (camera, mut stepper) = Camera::stepped(spec, dma, irq, FaultHandle::none()).unwrap();
        let write = |register: u32, value: u32| camera.write(register.into(), &value.to_le_bytes());
        for (register, value) in [
            (regs::CH_FORMAT, grey),
            (regs::CH_SIZE, 120 << 16 | 160),
            (regs::CH_STRIDE0, 160),
            (regs::CH_LEN0, 160 * 120),
            (regs::CH_COMMIT, 1),
            (regs::CTRL, regs::CTRL_ENABLE),
        ] {
            write(register, value);
        }
        let read = || {
            let mut frame = vec![0; 160 * 120];
            memory.read_slice(&mut frame, GuestAddress(0)).unwrap();
            stamp::check(&frame, &Layout::new(grey, 160, 120).unwrap()).map(|stamp| stamp.sequence)
        };
        stepper.pass(Duration::from_millis(9));
        assert!(!stepper.begin());
        stepper.pass(Duration::from_millis(1));
        assert!(stepper.begin() && read().is_err());
        stepper.finish();
        assert_eq!(read().unwrap(), 0);
        // A reset in the middle of a frame.
        for (register, value) in [(regs::CH_COMMIT, 1), (regs::IRQ_STATUS, u32::MAX)] {
            write(register, value);
        }
        stepper.pass(Duration::from_millis(10));
        assert!(stepper.begin());
        write(regs::CTRL, regs::CTRL_RESET);
        stepper.run();
        assert_eq!(read().unwrap(), 0, "it was abandoned");
    }
}
