//! What a lab is made of, for each architecture: its emulator, its kernel, its modules, its programs.

use guest_images::Arch;

/// One architecture's lab. All that differs from one to the next is here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    /// The emulator, and the Debian packages that bring it and the other programs the lab is prepared with.
    pub qemu: &'static str,
    pub packages: &'static [&'static str],
    /// Machine and CPU, as arguments of the emulator.
    pub machine: &'static [&'static str],
    /// Whether all of the emulator's threads share one CPU of this machine.
    pub one_host_cpu: bool,
    /// The Debian package that depends on the kernel, and the one that has a static busybox.
    pub kernel: &'static str,
    pub busybox: &'static str,
    /// Kernel modules to load, in this order, each after what it depends on.
    pub modules: &'static [&'static str],
    /// The modules of a lab with a network, which are loaded later.
    pub network: &'static [&'static str],
    /// The kernel's command line.
    pub cmdline: &'static str,
    /// Where this machine's own programs do not run: Debian packages, and what of each lies above this machine's root,
    /// beside busybox and a link to it for each of its commands.
    pub userland: &'static [(&'static str, &'static [&'static str])],
}

impl Recipe {
    /// The recipe for `arch`.
    pub(super) fn of(arch: &Arch) -> &'static Self {
        if arch.name == Arch::AARCH64.name { &AARCH64 } else { &X86_64 }
    }
}

/// AMD's virtualization (SVM, nested paging), which QEMU emulates without hardware's help.
pub(super) const X86_64: Recipe = Recipe {
    qemu: "qemu-system-x86_64",
    packages: &["qemu-system-x86", "kmod", "xz-utils"],
    // thread=single: with a thread for each CPU, QEMU 7.2 now and then keeps a translation of code that another CPU has
    // just patched. KVM patches the scheduler with each first and last VM (preempt_notifier_key), and a CPU then meets
    // the patch's INT3 for ever: one hang in a hundred guests or so.
    // xsave=off: QEMU's SVM does not intercept XSETBV, KVM never learns which states a guest enabled, and Linux warns.
    // erms=off: with it kernels clear and copy memory by `rep stosb` and `rep movsb`, which TCG does byte by byte. Without it they
    // take words of 8 bytes, and a guest's boot takes 40 % less of the CPU.
    machine: &["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max,xsave=off,erms=off"],
    // See host_cpu.rs.
    one_host_cpu: true,
    kernel: "linux-image-amd64",
    busybox: "busybox-static",
    modules: &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "kvm-amd"],
    network: &["virtio_net", "tun"],
    // tsc=reliable: the emulated TSCs are one counter, which Linux cannot know; without it guests get no stable
    // kvmclock. init_on_alloc=0: an emulated CPU is slow at zeroing memory that nobody asked to be zero.
    // cryptomgr.notests: self-tests of ciphers cost half a second. norandmaps: QEMU finds its translation of a program again where the
    // program has the same addresses; a guest's start takes 15 % less.
    cmdline: "console=ttyS0 quiet panic=-1 mitigations=off nokaslr norandmaps tsc=reliable init_on_alloc=0 \
              cryptomgr.notests=1 apparmor=0 audit=0",
    userland: &[],
};

/// Arm's virtualization at EL2, with the host extensions (VHE).
pub(super) const AARCH64: Recipe = Recipe {
    qemu: "qemu-system-aarch64",
    packages: &["qemu-system-arm", "kmod"],
    // neoverse-n1: max is three times slower, for its pointer authentication; cortex-a72 has no VHE.
    machine: &[
        "-machine",
        "virt,virtualization=on,gic-version=3",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "neoverse-n1",
    ],
    one_host_cpu: false,
    kernel: "linux-image-arm64",
    busybox: "busybox-static",
    // KVM is built in.
    modules: &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"],
    network: &["virtio_net", "tun"],
    cmdline: "console=ttyAMA0 quiet panic=-1 mitigations=off nokaslr norandmaps kpti=off init_on_alloc=0 \
              cryptomgr.notests=1 apparmor=0 audit=0",
    userland: &[
        ("busybox-static", &["bin/busybox"]),
        // Busybox's has no --chdir, and its shell takes its own commands for those of that name in PATH.
        ("coreutils", &["usr/bin/env"]),
        ("dash", &["bin/dash", "bin/sh"]),
        // What the tests run beyond busybox's commands, and the libraries of these.
        ("device-tree-compiler", &["usr/bin/dtc"]),
        ("util-linux", &["usr/bin/setpriv", "usr/bin/unshare"]),
        ("qemu-system-common", &["usr/lib/qemu/virtiofsd", "usr/bin/qemu-storage-daemon"]),
        ("passt", &["usr/bin/passt"]),
        ("libaio1", &["usr/lib"]),
        ("libc6", &["lib"]),
        ("libcap-ng0", &["lib"]),
        ("libfdt1", &["usr/lib"]),
        ("libffi8", &["usr/lib"]),
        ("libfuse3-3", &["lib"]),
        ("libglib2.0-0", &["usr/lib"]),
        ("libgmp10", &["usr/lib"]),
        ("libgnutls30", &["usr/lib"]),
        ("libhogweed6", &["usr/lib"]),
        ("libidn2-0", &["usr/lib"]),
        ("libnettle8", &["usr/lib"]),
        ("libnuma1", &["usr/lib"]),
        ("libp11-kit0", &["usr/lib"]),
        ("libpcre2-8-0", &["usr/lib"]),
        ("libseccomp2", &["usr/lib"]),
        ("libtasn1-6", &["usr/lib"]),
        ("libunistring2", &["usr/lib"]),
        ("liburing2", &["usr/lib"]),
        ("libyaml-0-2", &["usr/lib"]),
        ("libzstd1", &["usr/lib"]),
        ("zlib1g", &["lib"]),
    ],
};
