//! The tests that run programs of this workspace: minivmm on the command line, bare-metal guests, guests that boot Linux, labs.
//!
//! It is one program, because each further program would link the whole workspace again. It has the options of a normal test
//! program: `cargo test -p tests --test suite -- linux::` runs the tests of linux.rs.

mod anywhere;
mod bad_input;
mod balloon;
mod bare_metal;
mod bindings;
mod boards;
mod camera;
mod cameras;
mod check;
mod check_files;
mod debug_kernel;
mod demosaic;
mod disks;
mod events;
mod experiments;
mod faults;
mod gdb;
mod hosts;
mod images;
mod imports;
mod isp;
mod kernel_memory;
mod lab;
mod lcdif;
mod lessons;
mod libcamera;
mod linux;
mod metrics;
mod model;
mod msgdma;
mod networks;
mod other_kernels;
mod out_disk;
mod own_driver;
mod own_kernel;
mod pages;
mod promises;
mod reserved;
mod rkisp1;
mod rkisp1_debug;
mod rkisp1_params;
mod sandbox;
mod scenarios;
mod schemas;
mod shares;
mod soak;
mod test_programs;
mod top;
mod tour;
mod tree;
mod userlands;
mod vepu;
mod words;

use std::process::ExitCode;

use guest_images::Arch;
use tests::{
    harness::{self, Group},
    kernels,
};

fn main() -> ExitCode {
    harness::main(groups)
}

/// All tests for guests of `arch`. If the environment names a release of our kernel, only the tests of that release.
fn groups(arch: &Arch) -> Vec<Group> {
    if let Some(release) = kernels::chosen() {
        return vec![kernel_memory::group(), model::group(), other_kernels::of_release(release)];
    }
    vec![
        anywhere::group(),
        bad_input::group(),
        balloon::group(),
        bare_metal::group(),
        bindings::group(),
        boards::group(),
        boards::reproduced(),
        camera::group(),
        cameras::group(),
        check::group(),
        check_files::group(),
        debug_kernel::group(arch),
        demosaic::group(),
        disks::group(),
        disks::linux(),
        networks::linux(),
        events::group(),
        events::linux(),
        experiments::group(),
        faults::group(),
        gdb::group(),
        gdb::linux(),
        hosts::group(),
        images::group(),
        imports::group(),
        isp::group(),
        kernel_memory::debian(arch),
        kernel_memory::group(),
        lab::group(),
        lcdif::group(),
        vepu::group(),
        lessons::group(),
        libcamera::group(),
        linux::group(),
        metrics::group(),
        model::group(),
        msgdma::group(),
        other_kernels::debian(arch),
        other_kernels::large_pages(arch),
        out_disk::group(),
        own_driver::group(),
        own_kernel::group(),
        pages::group(),
        promises::group(),
        reserved::group(),
        rkisp1::group(),
        rkisp1_debug::group(arch),
        rkisp1_params::group(),
        sandbox::group(),
        sandbox::linux(),
        scenarios::group(arch),
        schemas::group(),
        schemas::of_machines(),
        shares::group(),
        shares::mistakes(),
        soak::group(),
        test_programs::group(),
        top::group(),
        tour::group(),
        tree::group(),
        userlands::group(),
        userlands::of_debian(),
        words::group(),
    ]
}
