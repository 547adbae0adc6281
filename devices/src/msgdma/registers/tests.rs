//! The registers without a worker and without memory: the test hands back the jobs.

use super::*;
use crate::{irq::IrqLine, msgdma::faults, platform::Trigger, register_table::Access};

struct Rig {
    registers: Registers,
    irq: IrqLine,
}

impl Rig {
    fn new(options: &str, plan: &str) -> Self {
        let irq = IrqLine::with_trigger(Trigger::Level).unwrap();
        Self { registers: Registers::new(&options.parse().unwrap(), irq.clone(), faults::handle(plan)), irq }
    }

    /// With interrupts and stops enabled, as Linux's driver enables them.
    fn enabled(options: &str, plan: &str) -> Self {
        let mut rig = Self::new(options, plan);
        let stops = regs::CONTROL_STOP_ON_ERROR | regs::CONTROL_STOP_ON_EARLY;
        rig.write(regs::CONTROL, regs::CONTROL_IRQ | stops);
        rig
    }

    fn write(&mut self, register: u32, value: u32) -> bool {
        self.registers.guest_writes(register, value, 0..4)
    }

    fn read(&mut self, register: u32) -> u32 {
        self.registers.guest_reads(register).0
    }

    fn status(&mut self, bits: u32) -> u32 {
        self.read(regs::STATUS) & bits
    }

    fn commit(&mut self, sequence: u32) -> bool {
        self.write(regs::DESC_LENGTH, 64);
        self.write(regs::DESC_BURST_SEQUENCE, sequence);
        self.write(regs::DESC_CONTROL, regs::DESC_GO | regs::DESC_DONE_IRQ | regs::DESC_ERROR_IRQ)
    }

    fn job(&mut self) -> Option<Job> {
        match self.registers.next_task() {
            Task::Job(job) => Some(job),
            Task::Wait | Task::Off => None,
        }
    }

    fn finish(&mut self, status: u32) {
        let mut job = self.job().unwrap();
        job.done = 64;
        self.registers.finished(job, Outcome::Ended(status));
    }

    fn counter(&self, name: &str) -> u64 {
        self.registers.counters().into_iter().find(|(counter, _)| *counter == name).unwrap().1
    }
}

#[test]
fn registers_have_their_reset_values_and_access() {
    let mut rig = Rig::new("", "");
    for register in regs::REGISTERS {
        let reset = if register.access == Access::Wo { 0 } else { register.reset };
        assert_eq!(rig.read(register.offset), reset, "{}", register.name);
        if register.access != Access::Rw && register.offset != regs::DESC_CONTROL {
            rig.write(register.offset, u32::MAX);
            assert_eq!(rig.read(register.offset), reset, "{}", register.name);
        }
    }
    rig.write(regs::CONTROL, !regs::CONTROL_RESET);
    assert_eq!(rig.read(regs::CONTROL), CONTROL_BITS);
}

#[test]
fn a_descriptor_is_reported_once() {
    let mut rig = Rig::enabled("", "");
    assert!(rig.commit(7));
    assert_eq!(rig.read(regs::FILL_LEVEL), 0x1_0001);
    assert_eq!(rig.status(regs::STATUS_BUSY | regs::STATUS_DESC_EMPTY), regs::STATUS_BUSY);
    rig.finish(0);
    assert_eq!(rig.status(regs::STATUS_BUSY | regs::STATUS_IRQ), regs::STATUS_IRQ);
    assert_eq!(rig.read(regs::SEQUENCE), 0x7_0007);
    assert!(rig.irq.take());
    assert_eq!(rig.read(regs::RESPONSE_FILL_LEVEL), 1);
    assert_eq!((rig.read(regs::RESP_BYTES), rig.read(regs::RESP_STATUS)), (64, 0));
    assert_eq!(rig.read(regs::RESPONSE_FILL_LEVEL), 0);
    rig.write(regs::STATUS, regs::STATUS_IRQ);
    rig.irq.end_of_interrupt();
    assert!(!rig.irq.take());
    assert_eq!((rig.counter("descriptors"), rig.counter("bytes"), rig.counter("irqs")), (1, 64, 1));
}

#[test]
fn the_line_stays_high_until_the_guest_clears_the_bit_that_it_can_see() {
    let mut rig = Rig::enabled("", "");
    rig.commit(1);
    rig.finish(0);
    assert!(rig.irq.take());
    rig.irq.end_of_interrupt();
    assert!(rig.irq.take(), "it was not acknowledged");
    rig.write(regs::CONTROL, 0);
    rig.irq.end_of_interrupt();
    assert!(!rig.irq.take(), "it is masked");
    rig.write(regs::CONTROL, regs::CONTROL_IRQ);
    assert!(rig.irq.take(), "it was not lost meanwhile");
}

#[test]
fn the_fifo_has_room_for_what_it_says() {
    let mut rig = Rig::enabled("descriptors=8", "");
    for sequence in 0..8 {
        assert_eq!(rig.status(regs::STATUS_DESC_FULL), 0);
        assert!(rig.commit(sequence));
    }
    assert_eq!(rig.status(regs::STATUS_DESC_FULL), regs::STATUS_DESC_FULL);
    assert!(!rig.commit(99));
    assert_eq!(rig.read(regs::FILL_LEVEL), 0x8_0008);
    assert_eq!(rig.counter("fifo_overflows"), 1);
}

#[test]
fn full_responses_hold_descriptors_back() {
    let mut rig = Rig::enabled("descriptors=8", "");
    for sequence in 0..16 {
        rig.commit(sequence);
        rig.finish(0);
    }
    assert_eq!(rig.status(regs::STATUS_RESP_FULL), regs::STATUS_RESP_FULL);
    rig.commit(16);
    assert!(rig.job().is_none());
    assert!(rig.registers.guest_reads(regs::RESP_STATUS).1, "the worker is woken");
    assert!(rig.job().is_some());
    let mut without = Rig::enabled("descriptors=8,response=no", "");
    for sequence in 0..17 {
        without.commit(sequence);
        without.finish(0);
    }
    assert_eq!(without.read(regs::RESPONSE_FILL_LEVEL), 0);
}

#[test]
fn a_stop_holds_what_is_in_work() {
    let mut rig = Rig::enabled("", "");
    rig.commit(1);
    rig.commit(2);
    let mut job = rig.job().unwrap();
    rig.write(regs::CONTROL, regs::CONTROL_STOP);
    assert!(rig.registers.breaks.load(Ordering::Relaxed));
    assert_eq!(rig.status(regs::STATUS_STOPPED), 0);
    job.done = 10;
    rig.registers.finished(job, Outcome::Held);
    let bits = regs::STATUS_STOPPED | regs::STATUS_BUSY;
    assert_eq!(rig.status(bits), bits);
    assert!(rig.job().is_none());
    // No descriptor begins, but the one in work goes on.
    rig.write(regs::CONTROL, regs::CONTROL_STOP_DESCS);
    assert!(!rig.registers.breaks.load(Ordering::Relaxed));
    let job = rig.job().unwrap();
    assert_eq!((job.done, job.descriptor.sequence), (10, 1));
    rig.registers.finished(job, Outcome::Ended(0));
    assert!(rig.job().is_none());
    assert_eq!(rig.status(bits), bits);
    rig.write(regs::CONTROL, 0);
    assert_eq!(rig.job().unwrap().descriptor.sequence, 2);
}

#[test]
fn a_reset_abandons_what_is_in_work() {
    let mut rig = Rig::enabled("", "");
    rig.commit(1);
    rig.commit(2);
    let job = rig.job().unwrap();
    rig.write(regs::CONTROL, regs::CONTROL_RESET | regs::CONTROL_IRQ);
    assert!(rig.registers.breaks.load(Ordering::Relaxed));
    assert_eq!(rig.status(regs::STATUS_BUSY | regs::STATUS_RESETTING), regs::STATUS_RESETTING);
    assert_eq!((rig.read(regs::CONTROL), rig.read(regs::FILL_LEVEL)), (0, 0));
    rig.registers.finished(job, Outcome::Ended(0));
    assert_eq!(rig.status(u32::MAX), regs::STATUS_DESC_EMPTY | regs::STATUS_RESP_EMPTY);
    assert!(!rig.registers.breaks.load(Ordering::Relaxed));
    assert_eq!((rig.counter("abandoned"), rig.counter("descriptors")), (1, 0));
    assert!(!rig.irq.take());
}

#[test]
fn an_error_stops_the_engine_until_the_guest_clears_it() {
    let mut rig = Rig::enabled("", "");
    rig.commit(1);
    rig.commit(2);
    rig.finish(regs::RESP_ERROR_READ);
    let bits = regs::STATUS_STOPPED | regs::STATUS_STOPPED_ON_ERROR | regs::STATUS_IRQ;
    assert_eq!(rig.status(bits), bits);
    assert_eq!(rig.read(regs::RESP_STATUS), regs::RESP_ERROR_READ);
    assert!(rig.job().is_none());
    assert!(rig.write(regs::STATUS, bits));
    assert_eq!(rig.status(bits), 0);
    rig.finish(regs::RESP_EARLY);
    assert_eq!(
        rig.status(bits | regs::STATUS_STOPPED_ON_EARLY),
        bits & !regs::STATUS_STOPPED_ON_ERROR | regs::STATUS_STOPPED_ON_EARLY
    );
    assert_eq!((rig.counter("bus_errors"), rig.counter("early_ends")), (1, 1));
    let mut goes_on = Rig::new("", "");
    goes_on.commit(1);
    goes_on.commit(2);
    goes_on.finish(regs::RESP_ERROR_WRITE);
    goes_on.finish(0);
}

#[test]
fn bytes_of_a_descriptor_come_in_any_order_and_the_last_commits_it() {
    let mut rig = Rig::new("", "");
    assert!(!rig.registers.guest_writes(regs::DESC_LENGTH, 0x0000_1200, 1..2));
    assert!(!rig.registers.guest_writes(regs::DESC_LENGTH, 0x0000_0034, 0..1));
    assert!(!rig.registers.guest_writes(regs::DESC_CONTROL, 0x0000_4000, 0..2));
    assert!(rig.registers.guest_writes(regs::DESC_CONTROL, 0x8000_0000, 3..4));
    assert_eq!(rig.job().unwrap().descriptor.length, 0x1234);
    // Part of a word is nothing to the other registers.
    rig.registers.guest_writes(regs::CONTROL, regs::CONTROL_STOP, 0..1);
    assert_eq!(rig.read(regs::CONTROL), 0);
}

/// A plan with one rule, for the event with this number.
fn plan(on: &str, action: &str, nth: u32) -> String {
    format!("[[rule]]\nname = 'r'\non = '{on}'\naction = '{action}'\nwhen = {{ nth = {nth} }}")
}

#[test]
fn an_interrupt_can_be_lost_or_come_twice() {
    let mut rig = Rig::enabled("", &plan("irq", "lose", 1));
    rig.commit(1);
    rig.finish(0);
    assert_eq!(rig.status(regs::STATUS_IRQ), 0);
    assert_eq!(rig.read(regs::RESPONSE_FILL_LEVEL), 1);
    let mut rig = Rig::enabled("", &plan("irq", "duplicate", 1));
    rig.commit(1);
    rig.finish(0);
    rig.write(regs::STATUS, regs::STATUS_IRQ);
    assert_eq!(rig.status(regs::STATUS_IRQ), regs::STATUS_IRQ, "once more");
    rig.write(regs::STATUS, regs::STATUS_IRQ);
    assert_eq!(rig.status(regs::STATUS_IRQ), 0);
    assert_eq!(rig.counter("irqs"), 2);
}

#[test]
fn a_response_can_be_lost_or_come_twice() {
    for (action, level) in [("lose", 0), ("duplicate", 2)] {
        let mut rig = Rig::enabled("", &plan("response", action, 1));
        rig.commit(1);
        rig.finish(0);
        assert_eq!(rig.read(regs::RESPONSE_FILL_LEVEL), level);
        assert_eq!(rig.counter("responses"), u64::from(level));
    }
}

#[test]
fn a_stuck_descriptor_waits_for_a_reset() {
    let mut rig = Rig::enabled("", &plan("descriptor", "stuck", 1));
    rig.commit(1);
    rig.commit(2);
    assert!(rig.job().is_none());
    assert_eq!(rig.status(regs::STATUS_BUSY), regs::STATUS_BUSY);
    rig.write(regs::CONTROL, regs::CONTROL_RESET);
    assert_eq!(rig.status(regs::STATUS_BUSY | regs::STATUS_RESETTING), 0);
    rig.commit(3);
    assert_eq!(rig.job().unwrap().descriptor.sequence, 3);
}

#[test]
fn registers_can_be_read_and_written_wrongly() {
    let mut rig = Rig::new("", &plan("mmio.read", "ones", 1));
    assert_eq!(rig.read(regs::STATUS), u32::MAX);
    let mut rig = Rig::enabled("", &plan("mmio.write", "spurious", 2));
    rig.write(regs::STATUS, 0);
    assert_eq!(rig.status(regs::STATUS_IRQ), regs::STATUS_IRQ);
    assert!(rig.irq.take());
}
