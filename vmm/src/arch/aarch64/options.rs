//! Options of machines of this architecture alone: the version of the interrupt controller.

use kvm_bindings::{
    kvm_create_device, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::Kvm;

use crate::arch::create::create_vm;

/// A version of Arm's Generic Interrupt Controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Gic {
    /// GICv2: at most eight CPUs.
    #[value(name = "2")]
    V2,
    /// GICv3.
    #[value(name = "3")]
    V3,
}

impl Gic {
    /// KVM's number for it.
    pub(super) fn device_type(self) -> u32 {
        match self {
            Self::V2 => kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
            Self::V3 => kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// Whether KVM gives a guest one.
    fn offered(self, kvm: &Kvm) -> bool {
        let mut device = kvm_create_device { type_: self.device_type(), fd: 0, flags: 0 };
        create_vm(kvm).and_then(|vm| vm.create_device(&mut device)).is_ok()
    }
}

/// Options of the command line that only this architecture has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Version of the guest's interrupt controller [default: 3, or 2 on a host that has only that]
    #[arg(long, value_name = "VERSION", hide_short_help = true)]
    gic: Option<Gic>,
}

impl Options {
    /// Chooses values for options that were left open, by the abilities of this host's KVM.
    ///
    /// # Errors
    /// A sentence that names an option that this host cannot fulfil.
    pub fn settle(&mut self, kvm: &Kvm) -> Result<(), String> {
        let offered: Vec<Gic> = [Gic::V3, Gic::V2].into_iter().filter(|gic| gic.offered(kvm)).collect();
        match (self.gic, &offered[..]) {
            (_, []) => {
                Err("this host's KVM gives guests no interrupt controller, neither GICv3 nor GICv2"
                    .to_owned())
            }
            (None, [best, ..]) => {
                self.gic = Some(*best);
                Ok(())
            }
            (Some(wanted), offered) if offered.contains(&wanted) => Ok(()),
            (Some(wanted), [best, ..]) => Err(format!(
                "this host's KVM has no GICv{} for guests; leave out --gic, or give --gic {}",
                wanted.number(),
                best.number()
            )),
        }
    }

    /// The interrupt controller.
    pub fn gic(&self) -> Gic {
        self.gic.unwrap_or(Gic::V3)
    }

    /// Most vCPUs: KVM's limit is 512 with a GICv3 (VGIC_V3_MAX_CPUS), and 8 with a GICv2 (VGIC_V2_MAX_CPUS).
    pub fn cpus_max(&self) -> u8 {
        match self.gic() {
            Gic::V2 => 8,
            Gic::V3 => 254,
        }
    }
}
