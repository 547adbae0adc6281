//! The cost of fault points: frames and register reads of a camera that is built without fault points (the feature no-hooks of
//! devices), without a plan, with an empty plan (as in every machine with an API socket), and
//! with rules that never fire.
//!
//! There is no machine: this program is the guest, which commits a frame, waits for its interrupt and acknowledges it. Rounds of
//! all variants alternate, each in a process of its own.

use std::{
    env,
    error::Error,
    hint,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use devices::{
    bus::BusDevice as _,
    camera::{Camera, regs},
    dma::DmaPort,
    faults::{FaultHandle, Faults, Plan},
    irq::IrqLine,
};
use serde::Serialize;
use serde_json::Value;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::{median, verdict};

/// Number of frames of each round, and of unmeasured frames before.
const FRAMES: u32 = 2_000;
const WARM_UP: u32 = 200;
/// Number of register reads in each round.
const READS: u32 = 1_000_000;
/// Odd, for medians.
const ROUNDS: usize = 41;
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;
const BUFFER: u32 = 0x4_0000;
const MEMORY: usize = 4 << 20;

/// One rule for each point that a frame meets.
const NEVER: &str = r#"
rule = [
    { name = "a", on = "sensor.link", action = "skip", frames = 1, when = { nth = 1_000_000_000 } },
    { name = "b", on = "frame.start", action = "stuck", when = { nth = 1_000_000_000 } },
    { name = "c", on = "frame.dma", action = "previous", when = { nth = 1_000_000_000 } },
    { name = "d", on = "frame.end", action = "sequence", add = 1, when = { nth = 1_000_000_000 } },
    { name = "e", on = "irq", action = "lose", when = { nth = 1_000_000_000 } },
    { name = "f", on = "mmio.read", action = "ones", when = { nth = 1_000_000_000 } },
    { name = "g", on = "mmio.write", action = "drop", when = { nth = 1_000_000_000 } },
]
"#;

/// The results for a plan: medians of the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// The plan.
    name: &'static str,
    /// Frames a second.
    frames_per_second: f64,
    /// The ratio to the camera without fault points, of the same round.
    ratio: f64,
    /// Time of a register read in seconds.
    seconds_a_read: f64,
    /// Whether `ratio` is within the noise or better. For plans without rules only.
    goal_met: Option<bool>,
}

/// Argument of the process that makes one round: then the number of its plan follows.
pub(crate) const ROUND: &str = "faults-round";

/// The cameras, by plan. The first two have neither a plan nor fault points, so their difference is noise.
const PLANS: [(&str, Option<&str>); 5] = [
    ("without hooks", None),
    ("without hooks, again", None),
    ("no plan", None),
    ("an empty plan", Some("")),
    ("rules that never fire", Some(NEVER)),
];

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    println!(
        "Faults that do not happen: GREY frames of {WIDTH}x{HEIGHT}, medians of {ROUNDS} rounds of {FRAMES}"
    );
    let (without, with) = (without_hooks()?, env::current_exe()?);
    println!("{:<24}{:>10}{:>8}{:>12}", "", "frames/s", "ratio", "ns a read");
    let mut rounds: Vec<[(f64, f64); PLANS.len()]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = [(0.0, 0.0); PLANS.len()];
        for (index, measured) in round.iter_mut().enumerate() {
            let program = if index < 2 { &without } else { &with };
            let output = Command::new(program).args(["--bench", ROUND, &index.to_string()]).output()?;
            *measured = serde_json::from_slice(&output.stdout)?;
        }
        rounds.push(round);
    }
    let ratios = |index: usize| {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[index].0 / round[0].0).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    };
    let noise = ratios(1);
    let (low, high) = (noise[ROUNDS / 4], noise[ROUNDS - 1 - ROUNDS / 4]);
    let mut all = Vec::new();
    for (index, (name, _)) in PLANS.into_iter().enumerate() {
        let ratio = ratios(index)[ROUNDS / 2];
        let has_goal = (2..=3).contains(&index);
        let figures = Figures {
            name,
            frames_per_second: median(rounds.iter().map(|round| round[index].0)),
            ratio,
            seconds_a_read: median(rounds.iter().map(|round| round[index].1)),
            goal_met: has_goal.then_some(ratio >= low),
        };
        println!(
            "{:<24}{:>10.0}{:>8.3}{:>12.1}  {}",
            figures.name,
            figures.frames_per_second,
            figures.ratio,
            figures.seconds_a_read * 1e9,
            figures.goal_met.map_or("", verdict)
        );
        all.push(figures);
    }
    println!("the goal is a ratio within the noise, of which half is from {low:.3} to {high:.3}");
    Ok(all)
}

/// Makes the round of the plan with this number, and prints what [`measure`] has.
pub(crate) fn round(plan: &str) -> Result<(), Box<dyn Error>> {
    let plan = match PLANS[plan.parse::<usize>()?].1 {
        None => None,
        Some("") => Some(Plan::default()),
        Some(text) => Some(Plan::read(text, &devices::fault_tables())?),
    };
    println!("{}", serde_json::to_string(&measure(plan)?)?);
    Ok(())
}

/// This program, built with cameras without fault points.
fn without_hooks() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = env::var_os("CARGO").ok_or("cargo bench runs this, which builds a part of it anew")?;
    let built = Command::new(cargo)
        .args(["bench", "--quiet", "--package", "tests", "--bench", "minivmm", "--no-run"])
        .args(["--features", "devices/no-hooks", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8(built.stdout)?;
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find(|message| message["target"]["kind"][0] == "bench");
    let program = program.as_ref().and_then(|message| message["executable"].as_str());
    Ok(program.ok_or("the benchmark cannot be built without hooks; cargo has said why")?.into())
}

/// Frames a second, and seconds that a read takes.
fn measure(plan: Option<Plan>) -> Result<(f64, f64), Box<dyn Error>> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?;
    let spec = "scene=gradient,timing=stall".parse::<devices::camera::CameraSpec>()?;
    let dma = DmaPort::new(memory, spec.dma.address_bits, &[0..MEMORY as u64]);
    let irq = IrqLine::new()?;
    let faults = plan.map_or(FaultHandle::none(), |plan| FaultHandle::new(Faults::new(plan, 1), "camera0"));
    let camera = Camera::with_faults("camera0", spec, dma, irq.clone(), faults)?;
    let write = |register: u32, value: u32| camera.write(register.into(), &value.to_le_bytes());
    for (register, value) in [
        (regs::IRQ_ENABLE, regs::IRQ_DONE),
        (regs::CH_FORMAT, u32::from_le_bytes(*b"GREY")),
        (regs::CH_SIZE, HEIGHT << 16 | WIDTH),
        (regs::CH_STRIDE0, WIDTH),
        (regs::CH_ADDR0_LO, BUFFER),
        (regs::CH_LEN0, WIDTH * HEIGHT),
        (regs::CTRL, regs::CTRL_ENABLE),
    ] {
        write(register, value);
    }
    let mut begun = Instant::now();
    for frame in 0..WARM_UP + FRAMES {
        if frame == WARM_UP {
            begun = Instant::now();
        }
        write(regs::CH_COMMIT, 1);
        while !irq.take() {
            hint::spin_loop();
        }
        write(regs::IRQ_STATUS, regs::IRQ_DONE);
    }
    let frames = f64::from(FRAMES) / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    for _ in 0..READS {
        let mut data = [0; 4];
        camera.read(regs::FRAME_SEQUENCE.into(), &mut data);
        hint::black_box(data);
    }
    Ok((frames, begun.elapsed().as_secs_f64() / f64::from(READS)))
}
