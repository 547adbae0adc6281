//! Each action of a plan of faults, seen as the guest sees it.

use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::{Layout, Rig, layout, regs, stamp};
use crate::faults::{Faults, Trace, testing};
use media::FrameSource as _;

const BUFFERS: [u32; 2] = [0x50_0000, 0x60_0000];
const DONE: u32 = regs::IRQ_DONE;
const ERRORS: u32 = regs::IRQ_OVERFLOW | regs::IRQ_BUS_ERROR | regs::IRQ_SYNC_LOSS;

/// A camera with a plan of one rule, streaming.
struct Faulty {
    rig: Rig,
    faults: Faults,
    layout: Layout,
    frames: usize,
}

/// What a driver sees of a frame.
#[derive(Debug, PartialEq)]
struct Seen {
    /// By CH_DONE_SEQUENCE, and by the stamp in memory, if there is a right one.
    sequence: u32,
    stamp: Option<u32>,
    bytes: u32,
}

impl Faulty {
    fn new(rule: &str) -> Self {
        Self::with_format(b"NV12", rule)
    }

    fn with_format(code: &[u8; 4], rule: &str) -> Self {
        Self::with_plan(code, &format!("[[rule]]\nname = \"r\"\n{rule}"))
    }

    fn with_plan(code: &[u8; 4], plan: &str) -> Self {
        let faults = Faults::new(testing::plan(plan), 1);
        let rig = Rig::with_faults("timing=stall,scene=gradient", Some(&faults));
        let layout = layout(code, 160, 120);
        rig.write(regs::IRQ_ENABLE, u32::MAX);
        rig.enable(&layout);
        Self { rig, faults, layout, frames: 0 }
    }

    fn buffer(&self) -> u32 {
        BUFFERS[self.frames % 2]
    }

    /// Posts the next buffer, which is cleared.
    fn post(&self) {
        let length: u32 = self.layout.planes().map(|plane| plane.stride * plane.lines).sum();
        let zeros = vec![0; length as usize];
        self.rig.memory.write_slice(&zeros, GuestAddress(self.buffer().into())).unwrap();
        self.rig.commit(&self.layout, self.buffer());
    }

    /// The next frame, acknowledged, or the error that came instead.
    fn next(&mut self) -> Result<Seen, u32> {
        self.post();
        self.taken()
    }

    /// The same for a frame whose buffer is posted.
    fn taken(&mut self) -> Result<Seen, u32> {
        self.rig.wait(DONE | ERRORS);
        let seen = self.seen();
        self.frames += 1;
        let events = self.rig.read(regs::IRQ_RAW);
        self.rig.write(regs::IRQ_STATUS, events);
        if events & ERRORS == 0 { Ok(seen) } else { Err(events & ERRORS) }
    }

    fn seen(&self) -> Seen {
        let length: u32 = self.layout.planes().map(|plane| plane.stride * plane.lines).sum();
        let frame = self.rig.bytes(self.buffer().into(), length as usize);
        Seen {
            sequence: self.rig.read(regs::CH_DONE_SEQUENCE),
            stamp: stamp::check(&frame, &self.layout).ok().map(|stamp| stamp.sequence),
            bytes: self.rig.read(regs::CH_DONE_BYTES),
        }
    }

    fn trace(&self) -> Trace {
        self.faults.trace()
    }
}

fn whole(sequence: u32) -> Seen {
    Seen { sequence, stamp: Some(sequence), bytes: 160 * 120 * 3 / 2 }
}

/// Frames 0 to 4. The rule fires only at frame 2.
fn five(rule: &str) -> (Vec<Result<Seen, u32>>, Faulty) {
    let mut faulty = Faulty::new(&format!("{rule}\nwhen = {{ frames = [2, 2] }}"));
    let seen = (0..5).map(|_| faulty.next()).collect();
    let firings = faulty.trace().firings;
    assert_eq!((firings.len(), firings[0].frame), (1, Some(2)), "{firings:?}");
    (seen, faulty)
}

#[track_caller]
fn five_with(rule: &str, second: Result<Seen, u32>) -> Faulty {
    let (seen, faulty) = five(rule);
    assert_eq!(seen, [Ok(whole(0)), Ok(whole(1)), second, Ok(whole(3)), Ok(whole(4))]);
    faulty
}

#[test]
fn frames_that_are_lost_are_told_of_and_the_next_is_well() {
    let faulty = five_with("on = \"frame.dma\"\naction = \"overflow\"", Err(regs::IRQ_OVERFLOW));
    assert_eq!((faulty.rig.read(regs::OVERFLOWS), faulty.rig.read(regs::CH_DROPS)), (1, 1));
    let faulty = five_with("on = \"frame.dma\"\naction = \"bus-error\"", Err(regs::IRQ_BUS_ERROR));
    assert_eq!(faulty.rig.read(regs::ERR_ADDR_LO), BUFFERS[0]);
    let faulty =
        five_with("on = \"sensor.link\"\naction = \"link-loss\"\nframes = 1", Err(regs::IRQ_SYNC_LOSS));
    assert_eq!(faulty.rig.read(regs::SYNC_LOSSES), 1);
}

#[test]
fn a_link_that_is_lost_for_longer_loses_each_frame_and_tells_once() {
    let mut faulty =
        Faulty::new("on = \"sensor.link\"\naction = \"link-loss\"\nframes = 3\nwhen = { nth = 2 }");
    assert_eq!(faulty.next(), Ok(whole(0)));
    assert_eq!(faulty.next(), Err(regs::IRQ_SYNC_LOSS));
    for _ in 0..2 {
        faulty.post();
        faulty.rig.wait(regs::IRQ_LATCHED);
        assert_eq!(faulty.rig.read(regs::IRQ_RAW), regs::IRQ_LATCHED);
        faulty.rig.write(regs::IRQ_STATUS, regs::IRQ_LATCHED);
    }
    assert_eq!(faulty.next(), Ok(whole(4)));
    assert_eq!((faulty.rig.read(regs::SYNC_LOSSES), faulty.rig.read(regs::CH_DROPS)), (1, 3));
}

#[test]
fn a_frame_that_is_too_long_is_written_as_far_as_there_is_room() {
    // NV12 with exact lengths has none.
    let faulty = five_with("on = \"frame.dma\"\naction = \"long\"\nlines = 2", Err(regs::IRQ_OVERFLOW));
    assert_eq!((faulty.rig.read(regs::OVERFLOWS), faulty.rig.read(regs::CH_DROPS)), (1, 1));
    let faulty = Faulty::new("on = \"frame.dma\"\naction = \"long\"\nlines = 2\nwhen = { nth = 1 }");
    faulty.rig.program(&faulty.layout, faulty.buffer());
    faulty.rig.write(regs::CH_LEN1, 160 * 62);
    faulty.rig.write(regs::CH_COMMIT, 1);
    faulty.rig.wait(DONE | ERRORS);
    let seen = faulty.seen();
    assert_eq!((seen.stamp, seen.bytes), (Some(0), whole(0).bytes + 2 * 160));
    let behind = u64::from(BUFFERS[0]) + u64::from(whole(0).bytes);
    assert_eq!(faulty.rig.bytes(behind, 2 * 160), vec![0x55; 2 * 160]);
}

#[test]
fn frames_that_are_not_what_they_say() {
    let length = whole(2).bytes;
    let with = |stamp, bytes| Ok(Seen { sequence: 2, stamp, bytes });
    five_with("on = \"frame.dma\"\naction = \"short\"\nlines = 30", with(None, length / 4));
    five_with("on = \"frame.dma\"\naction = \"torn\"\nlines = 30", with(None, length));
    let faulty = five_with("on = \"frame.dma\"\naction = \"torn\"\nlines = 0", with(None, length));
    assert!(faulty.rig.bytes(BUFFERS[0].into(), 64).iter().any(|byte| *byte != 0), "frame 4 lies there now");
    five_with("on = \"frame.dma\"\naction = \"duplicate\"", with(Some(1), length));
    let wrong = Seen { sequence: 12, stamp: Some(2), bytes: length };
    five_with("on = \"frame.end\"\naction = \"sequence\"\nadd = 10", Ok(wrong));
    five_with("on = \"frame.dma\"\naction = \"swap-planes\"", with(None, length));
}

#[test]
fn bits_that_flip_are_on_record() {
    let faulty = five_with(
        "on = \"frame.dma\"\naction = \"flip\"\nbits = 3",
        Ok(Seen { sequence: 2, stamp: None, bytes: whole(2).bytes }),
    );
    let firing = faulty.trace().firings.remove(0);
    assert_eq!(firing.changes.len(), 3);
    for change in firing.changes {
        assert_eq!((change.before ^ change.after).count_ones(), 1);
        let end = u64::from(BUFFERS[0]) + u64::from(whole(2).bytes);
        assert!((u64::from(BUFFERS[0])..end).contains(&change.address));
    }
}

#[test]
fn a_line_goes_wrong_alone() {
    let bytes = 160 * 120 * 3 / 2;
    // Line 50 of frame 2. Each line of the first plane is an event.
    let spoilt = |action: &str| {
        let rule = format!("on = \"frame.line\"\n{action}\nwhen = {{ frames = [2, 2], nth = 51 }}");
        let mut faulty = Faulty::new(&rule);
        assert_eq!([faulty.next(), faulty.next()], [Ok(whole(0)), Ok(whole(1))]);
        assert_eq!(faulty.next(), Ok(Seen { sequence: 2, stamp: None, bytes }), "{action}");
        let frame = faulty.rig.bytes(BUFFERS[0].into(), bytes as usize);
        let lines: Vec<Vec<u8>> = frame.chunks(160).map(<[u8]>::to_vec).collect();
        assert_eq!(faulty.next(), Ok(whole(3)));
        let firing = faulty.trace().firings.remove(0);
        assert_eq!(firing.address, Some(u64::from(BUFFERS[0]) + 50 * 160));
        (lines, firing)
    };
    let (zero, _) = spoilt("action = \"zero\"");
    assert!(zero[50].iter().all(|byte| *byte == 0) && zero[49..52].iter().any(|line| line[0] != 0));
    let (again, _) = spoilt("action = \"duplicate\"");
    assert!(again[50] == again[49] && again[51] != again[50], "the gradient goes on");
    let (flipped, firing) = spoilt("action = \"flip\"\nbits = 3");
    assert_eq!(firing.changes.len(), 3);
    assert_eq!((&flipped[49], &flipped[51]), (&zero[49], &zero[51]));
}

#[test]
fn a_frame_goes_astray_within_memory_and_no_further() {
    let with = |stamp| Ok(Seen { sequence: 2, stamp, bytes: whole(2).bytes });
    // Below the window, where no port permits a frame.
    let faulty = five_with("on = \"frame.dma\"\naction = \"offset\"\nbytes = -3145728", with(None));
    let there = u64::from(BUFFERS[0]) - 0x30_0000;
    let frame = faulty.rig.bytes(there, whole(2).bytes as usize);
    assert_eq!(stamp::check(&frame, &faulty.layout).unwrap().sequence, 2);
    assert_eq!(faulty.trace().firings[0].address, Some(there));
    // Beyond RAM it is refused as ever.
    five_with("on = \"frame.dma\"\naction = \"offset\"\nbytes = 0x1000_0000", Err(regs::IRQ_BUS_ERROR));
    five_with("on = \"frame.dma\"\naction = \"stride\"\nbytes = 2", with(None));
    let faulty = five_with("on = \"frame.dma\"\naction = \"previous\"", with(None));
    assert_eq!(faulty.trace().firings[0].address, Some(BUFFERS[1].into()));
}

/// At the port, which any device has. Each of the two planes of a frame is one write: the fifth is of frame 2.
#[test]
fn transfers_of_a_camera_go_wrong() {
    let fifth = |action: &str, frame: Result<Seen, u32>| {
        let mut faulty =
            Faulty::new(&format!("on = \"dma.write\"\n{action}\ndevice = \"camera0\"\nwhen = {{ nth = 5 }}"));
        let seen: Vec<_> = (0..4).map(|_| faulty.next()).collect();
        assert_eq!(seen, [Ok(whole(0)), Ok(whole(1)), frame, Ok(whole(3))], "{action}");
        faulty
    };
    let torn = || Ok(Seen { stamp: None, ..whole(2) });
    fifth("action = \"lost\"", torn());
    let faulty = fifth("action = \"offset\"\nbytes = -3145728", torn());
    let there = u64::from(BUFFERS[0]) - 0x30_0000;
    assert_eq!(faulty.trace().firings[0].address, Some(there));
    assert_ne!(faulty.rig.bytes(there, 64), [0; 64], "outside the window");
    let faulty = fifth("action = \"flip\"\nbits = 1", torn());
    assert_eq!(faulty.trace().firings[0].changes.len(), 1);
    let faulty = fifth("action = \"bus-error\"", Err(regs::IRQ_BUS_ERROR));
    assert_eq!(faulty.rig.read(regs::ERR_ADDR_LO), BUFFERS[0]);
}

#[test]
fn numbers_and_times_are_wrong_by_so_much() {
    let (seen, _) = five("on = \"sensor.link\"\naction = \"skip\"\nframes = 5");
    assert_eq!(seen, [whole(0), whole(1), whole(7), whole(8), whole(9)].map(Ok));
    let mut faulty = Faulty::new("on = \"frame.end\"\naction = \"timestamp\"\nnanoseconds = -1000000000000");
    faulty.next().unwrap();
    assert_eq!(faulty.rig.read(regs::CH_DONE_TIME_HI), u32::MAX - 232);
}

#[test]
fn a_clock_that_drifts_shows_less_time_than_passes() {
    let mut faulty =
        Faulty::new("on = \"frame.start\"\naction = \"drift\"\nppm = -999_000\nwhen = { nth = 2 }");
    let mut shown = || {
        std::thread::sleep(Duration::from_millis(20));
        faulty.next().unwrap();
        faulty.rig.read(regs::CH_DONE_TIME_LO)
    };
    let times = [(); 4].map(|()| shown());
    let passed: Vec<u32> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(passed[0] >= 20_000_000, "{passed:?}");
    // A thousandth of it, unless the machine was busy for 10 s.
    assert!(passed[1..].iter().all(|passed| (20_000..10_000_000).contains(passed)), "{passed:?}");
}

#[test]
fn a_frame_told_of_early_comes_all_the_same() {
    let mut faulty = Faulty::new("on = \"frame.dma\"\naction = \"early\"");
    let seen = faulty.next().unwrap();
    assert_eq!((seen.sequence, seen.bytes), (0, whole(0).bytes));
    let begun = Instant::now();
    faulty.frames = 0;
    while faulty.seen().stamp != Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the frame never came");
    }
}

/// Posts a buffer, and waits for its frame without a look at interrupts.
fn frame_without_interrupt(faulty: &mut Faulty) {
    faulty.post();
    faulty.rig.wait(DONE);
}

#[test]
fn interrupts_are_lost_late_and_too_many() {
    let quiet = |rule: &str| {
        let faulty = Faulty::new(rule);
        faulty.rig.write(regs::IRQ_ENABLE, DONE);
        faulty
    };
    let mut faulty = quiet("on = \"irq\"\naction = \"lose\"\ntimes = 1");
    frame_without_interrupt(&mut faulty);
    assert!(!faulty.rig.irq.take(), "lost");
    faulty.rig.write(regs::IRQ_STATUS, DONE);
    frame_without_interrupt(&mut faulty);
    assert!(faulty.rig.irq.take(), "the next is well");

    let mut faulty = quiet("on = \"irq\"\naction = \"late\"\nframes = 2\ntimes = 1");
    let raised = [(); 4].map(|()| {
        frame_without_interrupt(&mut faulty);
        faulty.rig.write(regs::IRQ_STATUS, DONE);
        faulty.rig.irq.take()
    });
    assert_eq!(raised, [false, false, true, true]);

    let mut faulty = quiet("on = \"irq\"\naction = \"storm\"\ncount = 3\ntimes = 1");
    frame_without_interrupt(&mut faulty);
    let raised = [(); 5].map(|()| {
        let raised = faulty.rig.irq.take();
        faulty.rig.read(regs::IRQ_STATUS);
        raised
    });
    assert_eq!(raised, [true, true, true, true, false]);

    let mut faulty = quiet("on = \"irq\"\naction = \"duplicate\"\ntimes = 1");
    frame_without_interrupt(&mut faulty);
    assert!(faulty.rig.irq.take());
    assert!(!faulty.rig.irq.take(), "the second comes when the first is handled");
    let raised = [DONE, DONE].map(|events| {
        faulty.rig.write(regs::IRQ_STATUS, events);
        faulty.rig.irq.take()
    });
    assert_eq!(raised, [true, false]);

    let mut faulty = quiet("on = \"frame.start\"\naction = \"spurious\"\ntimes = 1");
    faulty.rig.write(regs::IRQ_ENABLE, 0);
    frame_without_interrupt(&mut faulty);
    assert!(faulty.rig.irq.take());

    let faulty = Faulty::new("on = \"mmio.write\"\naction = \"spurious\"\nwhen = { register = 0x024 }");
    faulty.rig.irq.take();
    faulty.rig.write(regs::IRQ_ENABLE, 1);
    assert!(faulty.rig.irq.take() && faulty.rig.read(regs::IRQ_ENABLE) == 1, "it is written all the same");
}

#[test]
fn a_camera_that_is_stuck_is_helped_by_a_reset_and_one_that_resets_itself_forgets() {
    let mut faulty = Faulty::new("on = \"frame.start\"\naction = \"stuck\"\ntimes = 1");
    faulty.post();
    let begun = Instant::now();
    while faulty.rig.read(regs::STATUS) & regs::STATUS_ACTIVE == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    faulty.rig.write(regs::CTRL, 0);
    std::thread::sleep(Duration::from_millis(20));
    assert_ne!(faulty.rig.read(regs::STATUS) & regs::STATUS_ACTIVE, 0, "still in work");
    faulty.rig.write(regs::CTRL, regs::CTRL_RESET);
    while faulty.rig.read(regs::STATUS) != 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    faulty.rig.enable(&faulty.layout);
    assert_eq!(faulty.next(), Ok(whole(0)));

    let mut faulty = Faulty::new("on = \"frame.start\"\naction = \"reset\"\nwhen = { nth = 2 }");
    assert_eq!(faulty.next(), Ok(whole(0)));
    faulty.post();
    let begun = Instant::now();
    while faulty.rig.read(regs::CTRL) != 0 || faulty.rig.read(regs::STATUS) != 0 {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    assert_eq!((faulty.rig.read(regs::IRQ_ENABLE), faulty.rig.read(regs::CH_FORMAT)), (0, 0));
}

#[test]
fn registers_read_as_ones_and_take_nothing() {
    let rule = |on: &str, action: &str, register: u32| {
        format!("on = \"{on}\"\naction = \"{action}\"\nwhen = {{ register = {register}, nth = 2 }}")
    };
    let faulty = Faulty::new(&rule("mmio.read", "ones", regs::ID));
    let read = [(); 3].map(|()| faulty.rig.read(regs::ID));
    assert_eq!(read, [regs::ID_VALUE, u32::MAX, regs::ID_VALUE]);
    assert_eq!(faulty.trace().firings[0].register, Some(regs::ID));
    let faulty = Faulty::new(&rule("mmio.write", "drop", regs::PATTERN));
    let pattern = [1, 2, 3].map(|pattern| {
        faulty.rig.write(regs::PATTERN, pattern);
        faulty.rig.read(regs::PATTERN)
    });
    assert_eq!(pattern, [1, 1, 3]);
}

#[test]
fn registers_are_read_and_written_wrongly() {
    let rule = |on: &str, action: &str, value: u32| {
        let when = format!("when = {{ register = {}, value = {value} }}", regs::PATTERN);
        format!("on = \"{on}\"\n{action}\n{when}")
    };
    let faulty = Faulty::new(&rule("mmio.write", "action = \"value\"\nvalue = 4", 2));
    let pattern = [1, 2, 3].map(|pattern| {
        faulty.rig.write(regs::PATTERN, pattern);
        faulty.rig.read(regs::PATTERN)
    });
    assert_eq!(pattern, [1, 4, 3]);
    let firing = &faulty.trace().firings[0];
    assert_eq!((firing.register, firing.accessed), (Some(regs::PATTERN), Some(2)));

    let faulty = Faulty::new(&rule("mmio.read", "action = \"value\"\nvalue = 0xffff_fffe", 2));
    let pattern = [1, 2].map(|pattern| {
        faulty.rig.write(regs::PATTERN, pattern);
        faulty.rig.read(regs::PATTERN)
    });
    assert_eq!(pattern, [1, 0xffff_fffe]);

    let faulty = Faulty::new(&rule("mmio.read", "action = \"flip\"\nbits = 1", 2));
    faulty.rig.write(regs::PATTERN, 2);
    assert_eq!((faulty.rig.read(regs::PATTERN) ^ 2).count_ones(), 1);
    let faulty = Faulty::new(&format!(
        "on = \"mmio.write\"\naction = \"flip\"\nbits = 1\nwhen = {{ register = {} }}",
        regs::CH_ADDR0_LO
    ));
    faulty.rig.write(regs::CH_ADDR0_LO, 0x5000);
    assert_eq!((faulty.rig.read(regs::CH_ADDR0_LO) ^ 0x5000).count_ones(), 1);
}

/// A rule whose action is none leads from one state to the next.
#[test]
fn a_register_write_arms_what_follows() {
    let plan = format!(
        "[[rule]]\nname = \"armed\"\non = \"mmio.write\"\naction = \"none\"\nwhen = {{ register = {}, value = 3 }}\n\
         next-state = \"armed\"\n[[rule]]\nname = \"r\"\non = \"frame.dma\"\naction = \"overflow\"\nstate = \"armed\"\n",
        regs::PATTERN
    );
    let mut faulty = Faulty::with_plan(b"NV12", &plan);
    assert_eq!(faulty.next(), Ok(whole(0)));
    faulty.rig.write(regs::PATTERN, 1);
    assert_eq!(faulty.next(), Ok(whole(1)));
    faulty.rig.write(regs::PATTERN, 3);
    assert_eq!(faulty.rig.read(regs::PATTERN), 3, "nothing is wrong with it");
    assert_eq!(faulty.next(), Err(regs::IRQ_OVERFLOW));
}

#[test]
fn frames_are_paused_and_stepped() {
    let mut faulty = Faulty::new("on = \"irq\"\naction = \"lose\"\ncamera = 7");
    assert_eq!(faulty.next(), Ok(whole(0)));
    let begins = |faulty: &Faulty| {
        std::thread::sleep(Duration::from_millis(50));
        faulty.rig.read(regs::STATUS) & regs::STATUS_PENDING == 0
    };
    faulty.rig.camera.step(Some(0));
    faulty.post();
    assert!(!begins(&faulty));
    faulty.rig.camera.step(Some(2));
    assert_eq!([faulty.taken(), faulty.next()], [Ok(whole(1)), Ok(whole(2))]);
    faulty.post();
    assert!(!begins(&faulty), "two had begun");
    faulty.rig.camera.step(None);
    assert_eq!([faulty.taken(), faulty.next()], [Ok(whole(3)), Ok(whole(4))]);
}

#[test]
fn the_same_plan_and_seed_do_the_same_again() {
    let plan = "[[rule]]\nname = \"a\"\non = \"frame.dma\"\naction = \"flip\"\nbits = 2\nwhen = { probability = 0.3 }\n\
                [[rule]]\nname = \"b\"\non = \"irq\"\naction = \"lose\"\nwhen = { probability = 0.3 }";
    let run = |seed| {
        let faults = Faults::new(testing::plan(plan), seed);
        let rig = Rig::with_faults("timing=stall", Some(&faults));
        let layout = layout(b"GREY", 160, 120);
        rig.enable(&layout);
        for frame in 0..40 {
            rig.commit(&layout, BUFFERS[frame % 2]);
            rig.wait(DONE);
            rig.write(regs::IRQ_STATUS, u32::MAX);
        }
        faults.trace().firings
    };
    let first = run(1);
    assert!(first.len() > 10);
    assert!((0..20).all(|_| run(1) == first));
    assert_ne!(run(2), first);
}
