//! No file makes the loader of kernels panic or grow, or the reader of a kernel's configuration.

#![no_main]

use std::{
    cell::OnceCell,
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
};

use fuzz::Start;
use vm_memory::GuestMemoryMmap;
use vmm::{
    arch,
    boot::{kernel_options, memory},
};

/// Guest memory: what a kernel of an input's size needs, with room after it.
const MEMORY: u64 = 4 << 20;

thread_local! {
    static RAM: OnceCell<(GuestMemoryMmap, File)> = const { OnceCell::new() };
}

fuzz::target!(Start { seeds: fuzz::kernels::seeds(), ..Start::default() }, |bytes| {
    RAM.with(|ram| {
        let (ram, file) = ram.get_or_init(|| {
            let ram = memory::create(&arch::ram(MEMORY), false).expect("there is memory");
            let file =
                rustix::fs::memfd_create("kernel", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory");
            (ram, file.into())
        });
        file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("there is memory");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        match arch::load_kernel(ram, Path::new(&path)) {
            Ok(kernel) => assert!(kernel.range.start <= kernel.range.end),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
    kernel_options::embedded_config(bytes).map(|config| kernel_options::missing(&config));
});
