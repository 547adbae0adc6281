//! No kernel, initrd or module makes the loading of a machine panic or grow. What is loaded is in memory: the kernel, and the windows
//! apart from it.

#![no_main]

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::PathBuf,
};

use cma::check::Tree;
use fuzz::{Input, Start};
use vmm::{
    arch,
    boot::load,
    machine::config::{CmaMode, Config, MEMORY_MIN},
};

fn file(name: &str) -> (File, PathBuf) {
    let file: File =
        rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory").into();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

thread_local! {
    static FILES: [(File, PathBuf); 2] = ["kernel", "initrd"].map(file);
}

/// The kinds of machine, the length of the initrd, the initrd, and the kernel.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, kernel) in (0..).zip(fuzz::kernels::seeds().into_iter().cycle().take(12)) {
        let initrd = b"\x1f\x8b\x08\0 070701";
        seeds.push([&[kind, initrd.len() as u8, 0], initrd.as_slice(), &kernel].concat());
    }
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let mut input = Input(bytes);
    let (kind, length) = (input.byte(), input.half());
    let initrd = input.bytes(length.into());
    FILES.with(|[(kernel_file, kernel), (initrd_file, initrd_path)]| {
        for (file, bytes) in [(kernel_file, input.0), (initrd_file, initrd)] {
            file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("there is memory");
        }
        let mode = [CmaMode::Dt, CmaMode::Cmdline, CmaMode::Both][usize::from(kind % 3)];
        let windows = [&["8M,default"][..], &["16M,name=isp,default", "4M"], &["20M,default"]]
            [usize::from(kind / 3 % 3)];
        let config = Config {
            memory: MEMORY_MIN << (kind / 9 % 2),
            kernel: kernel.clone(),
            initrd: (!initrd.is_empty()).then(|| initrd_path.clone()),
            windows: windows.iter().map(|window| window.parse().expect("it is a window")).collect(),
            cma_mode: mode,
            seed: Some(1),
            ..Config::default()
        };
        let Ok(loaded) = load::load(&config) else { return };
        let kernel = loaded.kernel.expect("it was loaded").range;
        let ram = &arch::ram(config.memory)[0];
        assert!(kernel.start <= kernel.end && kernel.end <= ram.end, "the kernel is at {kernel:x?}");
        for window in &loaded.windows {
            let window = window.range();
            assert!(
                window.end <= kernel.start || window.start >= kernel.end,
                "{window:x?} is in the kernel {kernel:x?}"
            );
        }
        Tree::read(&loaded.tree).expect("our own tree can be read");
    });
});
