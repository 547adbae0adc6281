//! The table of the guest's architectures: an entry has everything that differs.

use std::env::consts;

use crate::{image::Kind, release::Release};

/// The fragment with Linux's own drivers of emulated devices, in guest-images/kernel/. Only our kernels have them.
pub(crate) const UPSTREAM: &str = "upstream.config";

/// An architecture that guest images can be built for.
#[derive(Debug)]
pub struct Arch {
    /// Its name in the cache, as in `uname -m`.
    pub name: &'static str,
    /// Its images.
    pub kinds: &'static [Kind],
    /// Debian's name for it.
    pub debian: &'static str,
    /// The kernel's name for it, for `make ARCH=`.
    pub(crate) kernel_arch: &'static str,
    /// Fragments of the kernel configuration, in guest-images/kernel/.
    pub(crate) fragments: &'static [&'static str],
    /// The file that a machine boots.
    pub(crate) kernel: &'static str,
    /// The kernel image for boot loaders, in addition to vmlinux: the target of make, and its path in the object folder.
    pub(crate) boot_image: (&'static str, &'static str),
    /// Debian packages with the programs that build the images, except for the compiler.
    pub(crate) tools: &'static [&'static str],
    /// For a machine of another architecture: the package with the cross compiler, and the prefix of the names of its
    /// programs.
    pub(crate) cross: (&'static str, &'static str),
    /// The path of the program interpreter of the guest's programs.
    pub(crate) interpreter: &'static str,
}

impl Arch {
    /// 64-bit PCs.
    pub const X86_64: &'static Self = &Self {
        name: "x86_64",
        kinds: &[
            Kind::DEFAULT,
            Kind::Default(Release::V6_12),
            Kind::Default(Release::V7_2),
            Kind::Debug(Release::V6_1),
        ],
        debian: "amd64",
        kernel_arch: "x86_64",
        fragments: &["common.config", "x86_64.config"],
        kernel: "vmlinux",
        boot_image: ("bzImage", "arch/x86/boot/bzImage"),
        // objtool needs libelf, kmod has depmod, and dwarves has pahole.
        tools: &[
            "bc",
            "bison",
            "dwarves",
            "flex",
            "gcc",
            "kmod",
            "libc6-dev",
            "libelf-dev",
            "make",
            "patch",
            "xz-utils",
        ],
        cross: ("gcc-x86-64-linux-gnu", "x86_64-linux-gnu-"),
        interpreter: "/lib64/ld-linux-x86-64.so.2",
    };

    /// 64-bit Arm.
    pub const AARCH64: &'static Self = &Self {
        name: "aarch64",
        kinds: &[
            Kind::DEFAULT,
            Kind::Default(Release::V6_12),
            Kind::Default(Release::V7_2),
            Kind::Large(Release::V6_1),
            Kind::Large(Release::V6_12),
            Kind::Large(Release::V7_2),
            Kind::Debian,
        ],
        debian: "arm64",
        kernel_arch: "arm64",
        fragments: &["common.config", "aarch64.config"],
        kernel: "Image",
        boot_image: ("Image", "arch/arm64/boot/Image"),
        // kmod finds the dependencies of modules, and dwarves has pahole.
        tools: &["bc", "bison", "dwarves", "flex", "gcc", "kmod", "libc6-dev", "make", "patch", "xz-utils"],
        cross: ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-"),
        interpreter: "/lib/ld-linux-aarch64.so.1",
    };

    /// All architectures.
    pub const ALL: [&'static Self; 2] = [Self::X86_64, Self::AARCH64];

    /// The architecture called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|arch| arch.name == name)
    }

    /// The architecture of this machine.
    pub fn host() -> &'static Self {
        Self::named(consts::ARCH).unwrap_or(Self::X86_64)
    }

    /// The Debian packages that building needs on this machine.
    pub(crate) fn packages(&self) -> Vec<&'static str> {
        let cross = (self.name != Self::host().name).then_some(self.cross.0);
        self.tools.iter().copied().chain(cross).collect()
    }

    /// The prefix of the names of this machine's compiler for it and of the related programs.
    pub(crate) fn prefix(&self) -> &'static str {
        if self.name == Self::host().name { "" } else { self.cross.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_found_by_name() {
        assert_eq!(Arch::named("aarch64").unwrap().debian, "arm64");
        assert!(Arch::named("arm64").is_none());
        assert_eq!(Arch::host().name, consts::ARCH);
    }

    #[test]
    fn only_another_architecture_needs_a_cross_compiler() {
        for arch in Arch::ALL {
            let foreign = arch.name != consts::ARCH;
            assert_eq!(arch.packages().contains(&arch.cross.0), foreign);
            assert_eq!(arch.prefix().is_empty(), !foreign);
        }
    }
}
