//! All that differs between architectures of the guest: one entry each.

/// An architecture that guest images can be built for.
#[derive(Debug)]
pub struct Arch {
    /// Its name in the cache, as in `uname -m`.
    pub name: &'static str,
    /// The kernel's name for it, for `make ARCH=`.
    pub kernel_arch: &'static str,
    /// Fragments of the kernel configuration, in guest-images/kernel/.
    pub fragments: &'static [&'static str],
    /// The kernel image that boot loaders take beside vmlinux: make's target, and its path in the object folder.
    pub boot_image: (&'static str, &'static str),
    /// Debian packages with the programs that build the images.
    pub tools: &'static [&'static str],
    /// Debian packages whose programs and libraries go into the initramfs.
    pub guest_packages: &'static [&'static str],
    /// The program interpreter that the guest's programs ask for, where they expect it.
    pub interpreter: &'static str,
}

/// 64-bit PCs.
pub const X86_64: Arch = Arch {
    name: "x86_64",
    kernel_arch: "x86_64",
    fragments: &["common.config", "x86_64.config"],
    boot_image: ("bzImage", "arch/x86/boot/bzImage"),
    // libelf is for objtool.
    tools: &["bc", "bison", "flex", "gcc", "libc6-dev", "libelf-dev", "make", "patch", "xz-utils"],
    guest_packages: &[
        "busybox-static",
        "libc6",
        "libgcc-s1",
        "libjpeg62-turbo",
        "libstdc++6",
        "libudev1",
        "libv4l-0",
        "libv4lconvert0",
        "v4l-utils",
        "yavta",
    ],
    interpreter: "/lib64/ld-linux-x86-64.so.2",
};
