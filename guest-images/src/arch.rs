//! All that differs between architectures of the guest: one entry each.

use std::env::consts;

use crate::{image::Kind, release::Release};

/// An architecture that guest images can be built for.
#[derive(Debug)]
pub struct Arch {
    /// Its name in the cache, as in `uname -m`.
    pub name: &'static str,
    /// The images that there are for it.
    pub kinds: &'static [Kind],
    /// Debian's name for it.
    pub(crate) debian: &'static str,
    /// The kernel's name for it, for `make ARCH=`.
    pub(crate) kernel_arch: &'static str,
    /// Fragments of the kernel configuration, in guest-images/kernel/.
    pub(crate) fragments: &'static [&'static str],
    /// The file that a machine boots.
    pub(crate) kernel: &'static str,
    /// The kernel image that boot loaders take, beside vmlinux: make's target, and its path in the object folder.
    pub(crate) boot_image: (&'static str, &'static str),
    /// Debian packages with the programs that build the images, beside the compiler.
    pub(crate) tools: &'static [&'static str],
    /// Where another architecture's machine builds them: the package with the compiler, and what the names of its
    /// programs begin with.
    pub(crate) cross: (&'static str, &'static str),
    /// The program interpreter that the guest's programs ask for, where they expect it.
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
        // libelf is for objtool, kmod for depmod.
        tools: &[
            "bc",
            "bison",
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
        // kmod finds which modules depend on which.
        tools: &["bc", "bison", "flex", "gcc", "kmod", "libc6-dev", "make", "patch", "xz-utils"],
        cross: ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-"),
        interpreter: "/lib/ld-linux-aarch64.so.1",
    };

    /// All of them.
    pub const ALL: [&'static Self; 2] = [Self::X86_64, Self::AARCH64];

    /// The one called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|arch| arch.name == name)
    }

    /// This machine's.
    pub fn host() -> &'static Self {
        Self::named(consts::ARCH).unwrap_or(Self::X86_64)
    }

    /// The Debian packages that building needs on this machine.
    pub(crate) fn packages(&self) -> Vec<&'static str> {
        let cross = (self.name != Self::host().name).then_some(self.cross.0);
        self.tools.iter().copied().chain(cross).collect()
    }

    /// What the names of this machine's compiler for it, and of the programs beside it, begin with.
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
