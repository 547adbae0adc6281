//! The choices for a machine of the soak. They depend on the seed, the machine's number and the abilities of the place alone.

use devices::media::random::split_mix;
use rustix::process::Signal;

/// What can be done where the soak runs.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// Linux guests run.
    pub linux: bool,
    /// Small file systems can be mounted.
    pub mounts: bool,
    /// The clock may be set: the host is a lab.
    pub clock: bool,
}

/// A guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// One of tests/bare-metal.
    Bare(&'static str),
    /// Bare metal that streams from a camera this number of frames, with a plan of faults if `true`.
    Stream(u64, bool),
    /// Linux with the command of one of `COMMANDS`.
    Linux(&'static str),
}

/// Commands for Linux guests, by their names.
pub(super) const COMMANDS: [(&str, &str); 7] = [
    ("true", "true"),
    ("frames", "v4l2-ctl --stream-mmap --stream-count=20 --stream-to=/out/frames"),
    (
        "files",
        "mkdir -p /out/a/b; ln -s / /out/link; head -c 3000000 /dev/zero > /out/a/b/zeros; seq 100000 > /out/numbers",
    ),
    ("many files", "i=0; while [ $i -lt 2000 ]; do echo $i > /out/$i; i=$((i + 1)); done"),
    ("output", "cat /dev/zero"),
    ("sleep", "sleep 1000"),
    ("panic", "echo c > /proc/sysrq-trigger; sleep 1000"),
];

impl Guest {
    /// Its name.
    pub fn name(self) -> String {
        match self {
            Self::Bare(name) => name.to_owned(),
            Self::Stream(_, false) => "stream".to_owned(),
            Self::Stream(_, true) => "stream with faults".to_owned(),
            Self::Linux(name) => format!("Linux: {name}"),
        }
    }
}

/// The reader of a stream of minivmm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// It reads.
    Reads,
    /// It does not read, and keeps its end.
    Stalls,
    /// It has closed its end.
    Closed,
}

/// A shortage of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Memory, or without a way to limit that, addresses: this many MiB.
    Memory(u64),
    /// Open files.
    Descriptors(u64),
    /// The size of files: the way of a small disk where nothing can be mounted.
    FileSize(u64),
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It gets a signal.
    Signal(Signal),
    /// A client sends a request to the API socket, and waits for the answer as long as `--timeout` of ctl.
    Ctl(&'static str),
    /// A client connects, sends a piece of a request and goes away.
    Half,
    /// The host's clock is moved by this many seconds.
    Clock(i64),
}

/// A machine of the soak.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its guest.
    pub guest: Guest,
    /// The options whose files it writes, as `--timeline`.
    pub outputs: Vec<&'static str>,
    /// The readers of standard output and standard error.
    pub readers: [Reader; 2],
    /// The disk of its outputs has this number of KiB.
    pub disk: Option<u64>,
    /// What else its host is short of.
    pub shortage: Option<Shortage>,
    /// System calls fail by chance: one in this number, after a number of calls; the third value is the seed.
    pub injection: Option<(u64, u64, u64)>,
    /// What happens, and when, in milliseconds. The last one ends it.
    pub actions: Vec<(u64, Action)>,
    /// The value of `--timeout` in seconds.
    pub timeout: Option<u64>,
}

/// Random choices from a seed.
struct Choices {
    seed: u64,
    drawn: u64,
}

impl Choices {
    fn below(&mut self, limit: u64) -> u64 {
        self.drawn += 1;
        split_mix(self.seed, self.drawn) % limit
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        let count = list.len() as u64;
        list[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

/// Signals that end a machine.
const ENDING: [Signal; 6] =
    [Signal::TERM, Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::KILL];

impl Plan {
    /// The machine `index` of `seed`.
    pub fn new(seed: u64, index: u64, able: Abilities) -> Self {
        let mut choices = Choices { seed: split_mix(seed, index), drawn: 0 };
        let guest = guest(&mut choices, able);
        let is_linux = matches!(guest, Guest::Linux(_));
        let mut outputs = vec!["--report"];
        for (option, number) in
            [("--console-log", 2), ("--timeline", 3), ("--api-socket", 2), ("--metrics", 3)]
        {
            if choices.one_in(number) {
                outputs.push(option);
            }
        }
        if matches!(guest, Guest::Stream(_, true)) {
            outputs.push("--trace");
        }
        if is_linux {
            outputs.push("--out");
        }
        let readers = [(); 2].map(|()| {
            choices.of(&[Reader::Reads, Reader::Reads, Reader::Reads, Reader::Stalls, Reader::Closed])
        });
        let small = choices.one_in(5).then(|| choices.of(&[4, 16, 64, 256, 1024]));
        let disk = small.filter(|_| able.mounts);
        let guest_memory = if is_linux { 256 } else { 64 };
        let shortage = match choices.below(8) {
            0 => Some(Shortage::Memory(choices.of(&[8, 24, 64, 160, 400]) + guest_memory)),
            1 => Some(Shortage::Descriptors(choices.below(60) + 24)),
            _ => small.filter(|_| !able.mounts).map(|size| Shortage::FileSize(size << 10)),
        };
        let injection = choices
            .one_in(3)
            .then(|| (choices.of(&[2, 3, 10, 50]), choices.below(60) + 30, choices.below(u64::MAX)));
        let timeout = choices.one_in(8).then_some(1);
        let actions = actions(&mut choices, able, is_linux, outputs.contains(&"--api-socket"));
        Self { guest, outputs, readers, disk, shortage, injection, actions, timeout }
    }

    /// The failures of the host, for the summary.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (stream, reader) in ["stdout", "stderr"].into_iter().zip(self.readers) {
            match reader {
                Reader::Reads => {}
                Reader::Stalls => faults.push(format!("{stream} stalls")),
                Reader::Closed => faults.push(format!("{stream} closed")),
            }
        }
        if self.disk.is_some() || matches!(self.shortage, Some(Shortage::FileSize(_))) {
            faults.push("disk full".to_owned());
        }
        match self.shortage {
            Some(Shortage::Memory(_)) => faults.push("memory short".to_owned()),
            Some(Shortage::Descriptors(_)) => faults.push("descriptors short".to_owned()),
            _ => {}
        }
        for (_, action) in &self.actions {
            match action {
                Action::Signal(Signal::STOP) => faults.push("SIGSTOP".to_owned()),
                Action::Clock(_) => faults.push("clock jumps".to_owned()),
                Action::Half => faults.push("half a request".to_owned()),
                _ => {}
            }
        }
        faults.dedup();
        faults
    }
}

fn guest(choices: &mut Choices, able: Abilities) -> Guest {
    if able.linux && choices.one_in(4) {
        return Guest::Linux(choices.of(&COMMANDS).0);
    }
    match choices.below(10) {
        0..=2 => Guest::Stream(choices.of(&[20, 200, 100_000]), choices.one_in(2)),
        _ => Guest::Bare(choices.of(&["hello", "spin", "chatter", "flood", "stuck", "halt", "reset"])),
    }
}

/// What happens to the machine, in order.
fn actions(choices: &mut Choices, able: Abilities, is_linux: bool, has_api: bool) -> Vec<(u64, Action)> {
    let life = if is_linux { choices.below(8000) } else { choices.below(900) } + 20;
    let mut actions = Vec::new();
    if choices.one_in(4) {
        for _ in 0..=choices.below(3) {
            let (at, pause) = (choices.below(life), choices.below(300));
            actions.push((at, Action::Signal(Signal::STOP)));
            actions.push((at + pause, Action::Signal(Signal::CONT)));
        }
    }
    let mut put = |choices: &mut Choices, action| actions.push((choices.below(life), action));
    if able.clock && choices.one_in(5) {
        let jump = choices.of(&[-86_400, -3600, -5, 5, 3600, 86_400]);
        put(choices, Action::Clock(jump));
    }
    if has_api {
        for _ in 0..choices.below(4) {
            let verb =
                choices.of(&["status", "devices", "pause", "resume", "capture", "faults", "cma", "events"]);
            put(choices, Action::Ctl(verb));
        }
        if choices.one_in(2) {
            put(choices, Action::Half);
        }
    }
    actions.sort_by_key(|(at, _)| *at);
    let last = actions.last().map_or(0, |(at, _)| *at).max(life);
    // A stopped process takes no other signal than SIGKILL.
    actions.push((last, Action::Signal(Signal::CONT)));
    let end =
        if has_api && choices.one_in(3) { Action::Ctl("stop") } else { Action::Signal(choices.of(&ENDING)) };
    actions.push((last, end));
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_number_choose_a_machine() {
        let able = Abilities { linux: true, mounts: true, clock: true };
        let text = |seed, index| format!("{:?}", Plan::new(seed, index, able));
        assert_eq!(text(1, 7), text(1, 7));
        assert_ne!(text(1, 7), text(2, 7));
        let plans: Vec<Plan> = (0..2000).map(|index| Plan::new(3, index, able)).collect();
        // Every kind of guest and of failure is among them, and the last action ends a machine.
        for name in COMMANDS.map(|(name, _)| format!("Linux: {name}")) {
            assert!(plans.iter().any(|plan| plan.guest.name() == name), "{name}");
        }
        let faults: Vec<String> = plans.iter().flat_map(Plan::faults).collect();
        for fault in
            ["stdout stalls", "stderr closed", "disk full", "memory short", "descriptors short", "SIGSTOP"]
        {
            assert!(faults.iter().any(|found| found == fault), "{fault}");
        }
        for plan in &plans {
            let (at, last) = plan.actions[plan.actions.len() - 1];
            assert!(matches!(last, Action::Signal(_) | Action::Ctl("stop")), "{plan:?}");
            assert!(plan.actions.iter().all(|(other, _)| *other <= at), "{plan:?}");
        }
    }
}
