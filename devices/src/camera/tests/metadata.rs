//! Tests of statistics and parameters with the whole camera, on guest memory.

use vm_memory::{Bytes, GuestAddress};

use super::{
    Layout, Rig, layout, means,
    regs::{self, CHANNEL_PARAMS, CHANNEL_STATISTICS},
    uapi::{FLAG_DISABLE, PARAMS_FOURCC, ParamsFault, STATISTICS_FOURCC, STATISTICS_SIZE},
};
use crate::faults::{Faults, testing};
use media::isp::GAIN_ONE;

const FRAME: u32 = 0x40_0000;
const STATISTICS: u32 = 0x60_0000;
const PARAMS: u32 = 0x70_0000;
const WHITE_BALANCE: u16 = 5;

fn flat() -> Layout {
    layout(b"RGB3", 160, 120)
}

fn rig(spec: &str) -> Rig {
    rig_with(spec, None)
}

fn rig_with(spec: &str, faults: Option<&Faults>) -> Rig {
    let rig = Rig::with_faults(&format!("timing=stall,scene=flat,noise=no,{spec}"), faults);
    rig.write(
        regs::CTRL,
        regs::CTRL_ENABLE | regs::CTRL_ENABLE << CHANNEL_STATISTICS | regs::CTRL_ENABLE << CHANNEL_PARAMS,
    );
    rig
}

fn commit(rig: &Rig, channel: u32, fourcc: u32, address: u32, length: usize) {
    let write = |register, value| rig.write(regs::of_channel(register, channel), value);
    write(regs::CH_FORMAT, fourcc);
    write(regs::CH_ADDR0_LO, address);
    write(regs::CH_LEN0, u32::try_from(length).unwrap());
    write(regs::CH_COMMIT, 1);
}

fn commit_statistics(rig: &Rig) {
    commit(rig, CHANNEL_STATISTICS, STATISTICS_FOURCC, STATISTICS, STATISTICS_SIZE);
}

/// Posts a buffer of parameters with one block of 16-bit elements.
fn commit_params(rig: &Rig, kind: u16, flags: u16, body: &[u16]) {
    let block = u32::try_from(8 + 2 * body.len()).unwrap();
    let words = [1, block, u32::from(flags) << 16 | u32::from(kind), block];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
    rig.memory.write_slice(&bytes, GuestAddress(PARAMS.into())).unwrap();
    commit(rig, CHANNEL_PARAMS, PARAMS_FOURCC, PARAMS, bytes.len());
}

/// The next frame with its statistics, acknowledged: the means of red, green and blue, and the statistics as words.
#[track_caller]
fn frame(rig: &Rig, layout: &Layout) -> ([usize; 3], Vec<u32>) {
    commit_statistics(rig);
    rig.commit(layout, FRAME);
    rig.wait(regs::IRQ_DONE);
    let length: u32 = layout.planes().map(|plane| plane.stride * plane.lines).sum();
    let bytes = rig.bytes(FRAME.into(), length as usize);
    let statistics = rig.bytes(STATISTICS.into(), STATISTICS_SIZE);
    rig.write(regs::IRQ_STATUS, regs::IRQ_DONE | regs::IRQ_DONE << CHANNEL_STATISTICS);
    (means(&bytes), statistics.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

/// Acknowledges that channel 3 is done; what was wrong.
fn params_done(rig: &Rig) -> [u32; 3] {
    rig.wait(regs::IRQ_DONE << CHANNEL_PARAMS);
    let read = |register| rig.read(regs::of_channel(register, CHANNEL_PARAMS));
    let error = [regs::CH_DONE_ERROR, regs::CH_DONE_ERROR_BLOCK, regs::CH_DONE_ERROR_OFFSET].map(read);
    assert_eq!(rig.read(regs::IRQ_RAW) & regs::IRQ_PARAMS_ERROR != 0, error[0] != 0);
    rig.write(regs::IRQ_STATUS, regs::IRQ_DONE << CHANNEL_PARAMS | regs::IRQ_PARAMS_ERROR);
    error
}

#[test]
fn statistics_come_with_the_frame_and_parameters_change_it_from_the_frame_on_that_takes_them() {
    let rig = rig("");
    let behind = u64::from(STATISTICS) + STATISTICS_SIZE as u64;
    rig.memory.write_slice(&[0xa5; 64], GuestAddress(behind)).unwrap();
    let (before, statistics) = frame(&rig, &flat());
    // Version, size, sequence, and no parameters yet.
    assert_eq!(statistics[..4], [1, 13_672, 0, u32::MAX]);
    // 10 ms, gains of 1.
    assert_eq!(statistics[6..10], [10_000_000, 256, 256, 0]);
    assert_eq!(statistics[12..268].iter().sum::<u32>(), 80 * 60, "each quad is in the histogram once");
    assert_eq!(rig.bytes(behind, 64), [0xa5; 64]);

    commit_params(&rig, WHITE_BALANCE, 0, &[GAIN_ONE / 4; 4]);
    let (dark, statistics) = frame(&rig, &flat());
    assert_eq!(params_done(&rig), [0; 3]);
    assert_eq!(statistics[2..4], [1, 1]);
    assert_eq!(statistics[10..12], [0x1000_1000; 2], "the gains that it was made with");
    assert!((0..3).all(|channel| dark[channel] * 3 < before[channel] * 2), "{dark:?} after {before:?}");
    // They stay in force, in other formats and sizes as well.
    let (still, statistics) = frame(&rig, &flat());
    assert_eq!((still, &statistics[2..4]), (dark, &[2, 1][..]));
    let (larger, _) = frame(&rig, &layout(b"RGB3", 320, 240));
    assert!(larger[1].abs_diff(dark[1]) <= 1, "{larger:?} after {dark:?}");

    rig.write(regs::CTRL, regs::CTRL_RESET);
    rig.write(regs::CTRL, regs::CTRL_ENABLE | regs::CTRL_ENABLE << CHANNEL_STATISTICS);
    let (after, statistics) = frame(&rig, &flat());
    assert_eq!((after, &statistics[2..4]), (before, &[0, u32::MAX][..]), "a reset restores the defaults");
}

/// A plan of one rule that acts on frame 1 alone.
fn faults(rule: &str) -> Faults {
    let rule = format!("[[rule]]\nname = \"r\"\n{rule}\nwhen = {{ frames = [1, 1] }}\n");
    Faults::new(testing::plan(&rule), 1)
}

#[test]
fn parameters_are_lost_or_misread_on_purpose() {
    let lost = faults("on = \"params\"\naction = \"drop\"");
    let rig = rig_with("", Some(&lost));
    let (before, first) = frame(&rig, &flat());
    commit_params(&rig, WHITE_BALANCE, 0, &[GAIN_ONE / 4; 4]);
    let (after, statistics) = frame(&rig, &flat());
    assert_eq!((params_done(&rig), after), ([0; 3], before), "it is told of as done");
    assert_eq!(
        (statistics[3], statistics[10]),
        (1, first[10]),
        "also here, beside the gains that it was made with"
    );
    // The next ones are taken.
    commit_params(&rig, WHITE_BALANCE, 0, &[GAIN_ONE / 4; 4]);
    assert_ne!(frame(&rig, &flat()).0, before);

    // Some of 128 bits are flipped. The buffer itself does not change.
    let misread = faults("on = \"params\"\naction = \"flip\"\nbits = 20");
    let rig = rig_with("", Some(&misread));
    frame(&rig, &flat());
    commit_params(&rig, WHITE_BALANCE, 0, &[GAIN_ONE / 4; 4]);
    let buffer = rig.bytes(PARAMS.into(), 24);
    frame(&rig, &flat());
    assert_ne!(params_done(&rig)[0], 0);
    assert_eq!(rig.bytes(PARAMS.into(), 24), buffer);
    let changes = misread.trace().firings.remove(0).changes;
    assert!(changes.len() == 20 && changes.iter().all(|change| (change.address - u64::from(PARAMS)) < 24));
}

#[test]
fn statistics_are_spoilt_on_purpose() {
    let three = |action: &str| {
        let faults = faults(&format!("on = \"stats\"\n{action}"));
        let rig = rig_with("", Some(&faults));
        ([(); 3].map(|()| frame(&rig, &flat()).1), faults.trace().firings.remove(0))
    };
    let sequences = |seen: &[Vec<u32>; 3]| seen.each_ref().map(|words| words[2]);
    let (again, _) = three("action = \"duplicate\"");
    assert_eq!(sequences(&again), [0, 0, 2]);
    assert_eq!(again[0], again[1]);
    let (stale, _) = three("action = \"drop\"");
    assert_eq!(sequences(&stale), [0, 0, 2], "the buffer is the same one, and still has the first");
    let (zero, _) = three("action = \"zero\"");
    assert!(zero[1].iter().all(|word| *word == 0) && sequences(&zero) == [0, 0, 2]);
    let (flipped, firing) = three("action = \"flip\"\nbits = 1");
    let change = firing.changes[0];
    let word = usize::try_from((change.address - u64::from(STATISTICS)) / 4).unwrap();
    assert_eq!((change.before ^ change.after).count_ones(), 1);
    assert!(flipped[1][word] != flipped[0][word] || word == 2, "{change:?}");
}

#[test]
fn wrong_parameters_change_nothing_and_the_frame_is_made() {
    let rig = rig("");
    let (before, _) = frame(&rig, &flat());
    let fault = |reason: u32, kind: u32, offset| [reason << 16 | kind, 8, offset];
    for (kind, flags, body, error) in [
        (10, 0, &[0; 4][..], fault(ParamsFault::TYPE, 10, 8)),
        (5, 8, &[0; 4], fault(ParamsFault::FLAGS, 5, 10)),
        (5, 0, &[0; 8], fault(ParamsFault::SIZE, 5, 12)),
        (1, 0, &[0, 0, 0, 1 << 14], fault(ParamsFault::RANGE, 1, 22)),
    ] {
        commit_params(&rig, kind, flags, body);
        let (seen, statistics) = frame(&rig, &flat());
        assert_eq!((seen, statistics[3]), (before, u32::MAX));
        assert_eq!(params_done(&rig), error);
    }
    // A buffer of a byte less than a header, and one of another format.
    for (fourcc, length) in [(PARAMS_FOURCC, 7), (STATISTICS_FOURCC, 24)] {
        commit(&rig, CHANNEL_PARAMS, fourcc, PARAMS, length);
        assert_eq!(frame(&rig, &flat()).0, before);
        assert_ne!(rig.read(regs::IRQ_RAW) & regs::IRQ_CONFIG_ERROR, 0);
        rig.write(regs::IRQ_STATUS, regs::IRQ_CONFIG_ERROR);
    }
}

#[test]
fn metadata_outside_the_window_are_bus_errors_and_the_frame_is_made() {
    let rig = rig("");
    let (before, _) = frame(&rig, &flat());
    // The last bytes of the window, and what is behind it.
    for (channel, fourcc, address, length) in [
        (CHANNEL_PARAMS, PARAMS_FOURCC, 0x100_0000 - 16, 24),
        (CHANNEL_STATISTICS, STATISTICS_FOURCC, 0x100_0000 - 4096, STATISTICS_SIZE),
    ] {
        commit(&rig, channel, fourcc, address, length);
        if channel != CHANNEL_STATISTICS {
            commit_statistics(&rig);
        }
        rig.commit(&flat(), FRAME);
        rig.wait(regs::IRQ_DONE);
        assert_ne!(rig.read(regs::IRQ_RAW) & regs::IRQ_BUS_ERROR, 0);
        assert_eq!((rig.read(regs::ERR_ADDR_LO), rig.read(regs::ERR_INFO)), (0x100_0000, channel << 8));
        rig.write(regs::IRQ_STATUS, u32::MAX);
        assert_eq!(means(&rig.bytes(FRAME.into(), 160 * 120 * 3)), before);
        assert_eq!(rig.read(regs::of_channel(regs::CH_DROPS, channel)), 1);
    }
    assert_eq!(rig.bytes(0x100_0000 - 4096, 4096), [0; 4096]);
}

#[test]
fn a_refused_frame_takes_its_metadata_with_it() {
    let rig = rig("");
    let (before, _) = frame(&rig, &flat());
    commit_statistics(&rig);
    commit_params(&rig, WHITE_BALANCE, FLAG_DISABLE, &[]);
    rig.commit(&flat(), 0x100_0000 - 4096);
    rig.wait(regs::IRQ_BUS_ERROR);
    let done = regs::IRQ_DONE << CHANNEL_PARAMS | regs::IRQ_DONE << CHANNEL_STATISTICS;
    assert_eq!((rig.read(regs::STATUS) & !0xf, rig.read(regs::IRQ_RAW) & done), (0, 0), "all are given up");
    rig.write(regs::IRQ_STATUS, u32::MAX);
    assert_eq!(frame(&rig, &flat()).0, before);
}

#[test]
fn a_block_takes_its_stage_out_of_what_is_automatic() {
    let rig = rig("lamp=0.6:0.5:0.2,auto=yes");
    let mut last = [0; 3];
    for _ in 0..40 {
        last = frame(&rig, &flat()).0;
    }
    assert!(last[2].abs_diff(last[1]) <= 3, "{last:?} is not neutral");
    commit_params(&rig, WHITE_BALANCE, 0, &[GAIN_ONE; 4]);
    for _ in 0..10 {
        last = frame(&rig, &flat()).0;
    }
    assert!(last[2] + 20 < last[1], "{last:?} was balanced");
}
