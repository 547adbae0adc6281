//! The interrupt controller: KVM's GIC (Documentation/virt/kvm/devices/arm-vgic.rst and arm-vgic-v3.rst).

use std::ptr;

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, kvm_create_device, kvm_device_attr,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::{
    layout::{GIC_CPU_INTERFACE, GIC_DISTRIBUTOR, GIC_REDISTRIBUTORS, IRQ_LINES},
    options::{Gic, Options},
};

/// Interrupts that each CPU has for itself: SGIs and PPIs.
const PRIVATE_IRQS: u32 = 32;
/// KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION: the number of redistributors is in the bits from here.
const REDISTRIBUTORS_SHIFT: u32 = 52;

/// The GIC, in the kernel.
#[derive(Debug)]
pub struct InterruptControllers(DeviceFd);

impl InterruptControllers {
    /// Creates it; before the first vCPU.
    ///
    /// # Errors
    /// Those of the ioctls.
    pub fn create(vm: &VmFd, cpus: u8, options: &Options) -> Result<Self, kvm_ioctls::Error> {
        let gic = options.gic();
        let mut device = kvm_create_device { type_: gic.device_type(), fd: 0, flags: 0 };
        let controller = Self(vm.create_device(&mut device)?);
        match gic {
            Gic::V2 => {
                controller.set_address(KVM_VGIC_V2_ADDR_TYPE_DIST, GIC_DISTRIBUTOR)?;
                controller.set_address(KVM_VGIC_V2_ADDR_TYPE_CPU, GIC_CPU_INTERFACE)?;
            }
            Gic::V3 => {
                controller.set_address(KVM_VGIC_V3_ADDR_TYPE_DIST, GIC_DISTRIBUTOR)?;
                let redistributors = GIC_REDISTRIBUTORS | u64::from(cpus) << REDISTRIBUTORS_SHIFT;
                controller.set_address(KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, redistributors)?;
            }
        }
        Ok(controller)
    }

    /// Makes it ready for interrupts; after the last vCPU.
    ///
    /// # Errors
    /// Those of the ioctls.
    pub fn start(&self) -> Result<(), kvm_ioctls::Error> {
        let interrupts = PRIVATE_IRQS + IRQ_LINES;
        self.set(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &raw const interrupts as u64)?;
        self.set(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, ptr::null::<u32>() as u64)
    }

    fn set_address(&self, kind: u32, address: u64) -> Result<(), kvm_ioctls::Error> {
        self.set(KVM_DEV_ARM_VGIC_GRP_ADDR, kind, &raw const address as u64)
    }

    /// Sets an attribute from the value that `addr` points to.
    fn set(&self, group: u32, attribute: u32, addr: u64) -> Result<(), kvm_ioctls::Error> {
        self.0.set_device_attr(&kvm_device_attr { flags: 0, group, attr: attribute.into(), addr })
    }
}
