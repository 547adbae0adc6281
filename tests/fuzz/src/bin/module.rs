//! No kernel module, and no kernel that it is compared with, makes the check of modules panic. What it prints has printable characters.

#![no_main]

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
};

use fuzz::Start;
use vmm::{boot::module, machine::config::Config};

/// The kernel begins after this mark.
const MARK: &[u8] = b"<kernel>";

thread_local! {
    static KERNEL: (File, Config) = {
        let file = rustix::fs::memfd_create("kernel", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory");
        let config = Config { kernel: format!("/proc/self/fd/{}", file.as_raw_fd()).into(), ..Config::default() };
        (file.into(), config)
    };
}

fn seeds() -> Vec<Vec<u8>> {
    let module = |magic: &str| {
        [b"\x7fELF\x02\0vermagic=", magic.as_bytes(), b"\0name=x\0\0__versions\0", MARK].concat()
    };
    let mut bzimage = vec![0; 0x240];
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    bzimage[0x20e] = 0x20;
    bzimage[0x220..0x22b].copy_from_slice(b"6.1.5 (x)\0\0");
    let kernel = b"\x7fELF%s version 6.1.5 (x)\0Linux version 6.1.5 (x@y) #1\n\0...6.1.5\x006.1.5 SMP mod_unload \0rest";
    let mut seeds = Vec::new();
    for magic in ["6.1.5 SMP mod_unload ", "6.1.6 SMP mod_unload ", "6.1.5 SMP preempt "] {
        seeds.push([module(magic).as_slice(), kernel].concat());
        seeds.push([module(magic), bzimage.clone()].concat());
    }
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK);
    let (data, kernel) = at.map_or((bytes, &[][..]), |at| (&bytes[..at], &bytes[at + MARK.len()..]));
    KERNEL.with(|(file, config)| {
        file.set_len(0).and_then(|()| file.write_all_at(kernel, 0)).expect("there is memory");
        if let Err(error) = module::check(Path::new("x.ko"), data, config) {
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    });
});
