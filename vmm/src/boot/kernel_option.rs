//! A kernel option that a guest needs to come up: its name, and its purpose.

/// A kernel option that a guest needs to come up.
#[derive(Debug, Clone, Copy)]
pub struct KernelOption {
    /// Its name without `CONFIG_`.
    pub name: &'static str,
    /// Whether the initramfs may load it as a module.
    pub may_be_module: bool,
    /// What it does in the guest.
    pub purpose: &'static str,
}

impl KernelOption {
    /// An option that has to be built in.
    pub(crate) const fn built_in(name: &'static str, purpose: &'static str) -> Self {
        Self { name, may_be_module: false, purpose }
    }

    /// An option that may be a module.
    pub(crate) const fn module(name: &'static str, purpose: &'static str) -> Self {
        Self { name, may_be_module: true, purpose }
    }
}
