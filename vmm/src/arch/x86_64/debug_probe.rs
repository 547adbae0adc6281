//! What this host's KVM reports to a debugger: tiny guests find out. Emulated and nested KVMs lack parts of it without saying so:
//! QEMU's SVM does not intercept INT3 and has no debug registers, and a PVM interprets ring 0 without INT3.

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use kvm_ioctls::{Kvm, VcpuExit};

use super::{
    debug::{INT3, OUT, set_stops},
    probe::{CODE, set_registers, write_memory},
};
use crate::{
    arch::{
        create::create_vm,
        stops::{Facilities, Slot, SlotKind, Stops},
    },
    boot::memory,
};

/// The debug registers of the CPU.
const SLOTS: usize = 4;
/// INC dword \[CODE + 0x100\], with the address in 32 bits.
const STORE: [u8; 7] = [0xff, 0x04, 0x25, 0x00, 0x51, 0x00, 0x00];
const STORED: u64 = CODE + 0x100;
/// OUT 0x10, AL; HLT.
const END: [u8; 3] = [0xe6, 0x10, 0xf4];

/// What this KVM offers a debugger. Takes milliseconds.
pub fn facilities(kvm: &Kvm) -> Facilities {
    let slot = |address, kind| Stops { software: false, slots: vec![Slot { address, length: 4, kind }] };
    let reports_trap = stops(kvm, INT3, &Stops { software: true, slots: Vec::new() });
    let execute = stops(kvm, &STORE, &slot(CODE, SlotKind::Execute));
    let data = stops(kvm, &STORE, &slot(STORED, SlotKind::Write));
    Facilities {
        trap: if reports_trap { INT3 } else { OUT },
        reports_trap,
        execute: if execute { SLOTS } else { 0 },
        data: if data { SLOTS } else { 0 },
        together: SLOTS,
    }
}

/// Whether KVM stops a guest that executes `code` in ring 0. A KVM that refuses a request does not.
fn stops(kvm: &Kvm, code: &[u8], stops: &Stops) -> bool {
    let run = || {
        let memory = memory::create(&[0..0x20_0000], false).ok()?;
        write_memory(&memory, &[code, &END].concat()).ok()?;
        let vm = create_vm(kvm).ok()?;
        memory::register(&vm, &memory).ok()?;
        let mut vcpu = vm.create_vcpu(0).ok()?;
        vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).ok()?).ok()?;
        set_registers(&vcpu, CODE, 0).ok()?;
        set_stops(&vcpu, &memory, stops, false).ok()?;
        loop {
            match vcpu.run() {
                Ok(VcpuExit::Debug(_)) => return Some(()),
                Ok(VcpuExit::Intr) => {}
                Err(error) if error.errno() == libc::EINTR => {}
                _ => return None,
            }
        }
    };
    run().is_some()
}
