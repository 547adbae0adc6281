//! The CMA areas that minivmm reads from guest memory are those that the guest's debugfs has, and those of a kernel that has none.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use guest_images::{Arch, Kind};
use tests::{
    guest,
    harness::{Extent, Group, Place},
    kernels,
    steps::Stepped,
    tests,
};
use vmm::api::{Answer, GuestWindow, OwnedRun, Reader};

/// The tests.
pub(crate) fn group() -> Group {
    Group {
        name: "kernel_memory",
        place: Place::Linux(vec![Kind::Default(kernels::release())]),
        tests: tests![memory_and_debugfs_agree_after_each_operation],
    }
}

/// The test of Debian's kernel, if `arch` has such an image. Its debugfs has no areas, and no file has its symbols.
pub(crate) fn debian(arch: &Arch) -> Group {
    let all = tests![a_kernel_without_symbols_has_its_areas];
    let tests = if arch.kinds.contains(&Kind::Debian) { all } else { Vec::new() };
    Group { name: "kernel_memory", place: Place::Linux(vec![Kind::Debian]), tests }
}

/// Asks the machine for its areas, as `reader` has them.
fn areas(socket: &mut BufReader<UnixStream>, reader: &str) -> Vec<GuestWindow> {
    writeln!(socket.get_mut(), "{{\"verb\": \"cma\", \"from\": \"{reader}\"}}").unwrap();
    match answer(socket) {
        Answer::Cma(windows) => windows,
        other => panic!("{other:?}"),
    }
}

fn answer(socket: &mut BufReader<UnixStream>) -> Answer {
    let mut line = String::new();
    socket.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn connect(path: &Path) -> BufReader<UnixStream> {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < guest::LIMIT, "there is no socket");
        thread::sleep(Duration::from_millis(20));
    }
    BufReader::new(guest::connect(path).unwrap())
}

/// The guest allocates from two areas and frees, after each line on its standard input. Its agent's answer is what debugfs
/// has, and each page has the process as its owner that allocated it.
fn memory_and_debugfs_agree_after_each_operation() {
    let operations = if Extent::asked() == Extent::Thorough { 1000 } else { 30 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api");
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(kernels::image(Kind::Default(kernels::release())).split_whitespace());
    minivmm.args(["--cma", "16M,name=one", "--cma", "size=8M,name=two", "--camera", "none", "--api-socket"]);
    // The shell allocates from the first area, another program from the second.
    minivmm.arg(&path).args(["--cmdline", "page_owner=on", "--exec"]).arg(
        "cd /sys/kernel/debug/cma; echo $$
        while read area file pages; do
            case $area in
                one) echo $pages 2> /dev/null > $(echo one*)/$file ;;
                two) echo $pages | tee $(echo two*)/$file > /dev/null 2>&1 ;;
            esac
            echo done
        done",
    );
    let mut child = guest::spawn(minivmm.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let shell: u32 = lines.next().unwrap().unwrap().parse().unwrap();
    let mut socket = connect(&path);
    // On arm64, the kernel itself has pages for atomic allocations (kernel/dma/pool.c).
    let kernels: Vec<_> =
        areas(&mut socket, "memory").into_iter().filter_map(|window| window.owners).collect();
    let mut allocated = Vec::new();
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for operation in 0..operations {
        let area = ["one", "two"][usize::try_from(random(2)).unwrap()];
        let file = if random(5) < 3 { "alloc" } else { "free" };
        writeln!(input, "{area} {file} {}", 1 + random(60)).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "done");
        let mut memory = areas(&mut socket, "memory");
        let agent = areas(&mut socket, "agent");
        assert!(memory.iter().all(|window| window.read_by == Reader::Memory));
        assert!(agent.len() == 2 && agent.iter().all(|window| window.read_by == Reader::Agent));
        for window in &mut memory {
            let owned = check_owners(window, shell, &kernels.concat());
            assert_eq!(owned, window.runs_allocated, "after operation {operation}");
            (window.owners, window.read_by) = (None, Reader::Agent);
        }
        assert_eq!(memory, agent, "after operation {operation}");
        allocated.push(agent.iter().map(|window| window.pages_allocated).sum::<u64>());
    }
    assert!(allocated.iter().any(|pages| *pages > 50), "{allocated:?}");
    // The agent is silent in a pause. minivmm is not.
    writeln!(socket.get_mut(), "{{\"verb\": \"pause\"}}").unwrap();
    assert!(matches!(answer(&mut socket), Answer::Done {}));
    let paused = areas(&mut socket, "memory");
    assert_eq!(Some(&paused.iter().map(|window| window.pages_allocated).sum()), allocated.last());
    writeln!(socket.get_mut(), "{{\"verb\": \"stop\"}}").unwrap();
    child.wait().unwrap();
}

/// The pages of a window as runs, of which each has the owner that it is to have. The kernel had some before.
fn check_owners(window: &GuestWindow, shell: u32, kernels: &[OwnedRun]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for run @ OwnedRun { first, pages, comm, pid, tgid } in window.owners.as_ref().unwrap() {
        assert_eq!(pid, tgid);
        match &window.name[..3] {
            _ if kernels.contains(run) => assert_eq!((comm.as_str(), *pid), ("swapper/0", 1)),
            "one" => assert_eq!((comm.as_str(), *pid), ("sh", shell)),
            _ => assert!(comm == "tee" && *pid > shell, "{comm} {pid}"),
        }
        match runs.last_mut() {
            Some((start, count)) if *start + *count == *first => *count += pages,
            _ => runs.push((*first, *pages)),
        }
    }
    runs
}

fn a_kernel_without_symbols_has_its_areas() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api");
    let arguments = "--image debian --cma 16M,default,name=first --cma 64M,name=isp --camera window=isp,timing=stall --api-socket";
    let mut machine = Stepped::start(
        &format!("{arguments} {}", path.display()),
        "echo up; step
         v4l2-ctl -v width=1920,height=1080,pixelformat=NV12 --stream-mmap=3 > /dev/null 2>&1 &
         step; kill $!; wait; echo over; step",
    );
    assert_eq!(machine.line(), "up");
    let mut socket = connect(&path);
    let mut runs = || {
        let found = areas(&mut socket, "memory");
        let names: Vec<_> = found.iter().map(|window| window.name.split('@').next().unwrap()).collect();
        let sizes: Vec<_> = found.iter().map(|window| window.size >> 20).collect();
        let by_name: Vec<_> = names.into_iter().zip(sizes).collect();
        assert!(by_name.contains(&("first", 16)) && by_name.contains(&("isp", 64)), "{by_name:?}");
        let isp = found.into_iter().find(|window| window.name.starts_with("isp")).unwrap();
        isp.runs_allocated
    };
    assert_eq!(runs(), []);
    machine.go_on();
    // Frames of 760 pages, each aligned to the most that CONFIG_CMA_ALIGNMENT has, 256 pages.
    let held = [(0, 760), (768, 760), (1536, 760)];
    let begun = Instant::now();
    while runs() != held {
        assert!(begun.elapsed() < guest::LIMIT, "{:?}", runs());
        thread::sleep(Duration::from_millis(50));
    }
    machine.go_on();
    assert_eq!(machine.line(), "over");
    assert_eq!(runs(), []);
    machine.go_on();
    machine.end();
}
