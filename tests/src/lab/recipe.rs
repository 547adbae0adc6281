//! What a lab is made of, for each architecture: its emulator, its kernel, its modules.

/// One architecture's lab. All that differs from one to the next is here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    /// The emulator, and the Debian packages that bring it and the other programs the lab is prepared with.
    pub qemu: &'static str,
    pub packages: &'static [&'static str],
    /// Machine and CPU, as arguments of the emulator.
    pub machine: &'static [&'static str],
    /// The Debian package that depends on the kernel, and the one that has a static busybox.
    pub kernel: &'static str,
    pub busybox: &'static str,
    /// Kernel modules to load, in this order, each after what it depends on.
    pub modules: &'static [&'static str],
    /// The kernel's command line.
    pub cmdline: &'static str,
}

/// AMD's virtualization (SVM, nested paging), which QEMU emulates without hardware's help.
pub(super) const X86_64: Recipe = Recipe {
    qemu: "qemu-system-x86_64",
    packages: &["qemu-system-x86", "kmod", "xz-utils"],
    // thread=single: with a thread for each CPU, QEMU 7.2 now and then keeps a translation of code that another CPU has
    // just patched. KVM patches the scheduler with each first and last VM (preempt_notifier_key), and a CPU then meets
    // the patch's INT3 for ever: one hang in a hundred guests or so.
    // xsave=off: QEMU's SVM does not intercept XSETBV, KVM never learns which states a guest enabled, and Linux warns.
    machine: &["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max,xsave=off"],
    kernel: "linux-image-amd64",
    busybox: "busybox-static",
    modules: &["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "kvm-amd"],
    // tsc=reliable: the emulated TSCs are one counter, which Linux cannot know; without it guests get no stable
    // kvmclock. init_on_alloc=0: an emulated CPU is slow at zeroing memory that nobody asked to be zero.
    // cryptomgr.notests: self-tests of ciphers cost half a second.
    cmdline: "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable init_on_alloc=0 \
              cryptomgr.notests=1 apparmor=0 audit=0",
};
