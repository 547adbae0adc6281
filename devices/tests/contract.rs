//! Every device of the registry keeps the contract of a device: it describes itself, survives any access, and stops.

use std::{
    collections::HashSet,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use devices::{
    REGISTRY,
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Companion, DeviceSpec, Parts, PlatformDevice, Registration, options},
};
use proptest::prelude::*;
use tempfile::{NamedTempFile, TempDir};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use fake::Fake;

#[expect(dead_code, reason = "only tests of the device need a backend that breaks the protocol")]
#[path = "../src/virtio/vhost_user/fake.rs"]
mod fake;

/// RAM of the tests, in bytes from address 0.
const RAM: usize = 1 << 20;
/// The longest that a device takes to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// The file of a disk.
static DISK: LazyLock<NamedTempFile> = LazyLock::new(|| {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    file
});

/// The folder with the socket of backends.
static BACKENDS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            thread::spawn(move || Fake::default().serve(socket.unwrap()));
        }
    });
    folder
});

/// The devices that can be built on any host: a shared folder needs virtiofsd, and is else a device of such a backend.
fn anywhere() -> impl Iterator<Item = &'static Registration> {
    REGISTRY.iter().copied().filter(|registration| registration.name != "share")
}

/// A socket that ends each connection, and its folder.
static SOCKET: LazyLock<(PathBuf, TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    (path, folder)
});

/// The number of sockets of vsock devices.
static VSOCKS: AtomicU32 = AtomicU32::new(0);

/// The options that a device needs.
fn needed(registration: &Registration) -> String {
    match registration.name {
        "net" => format!("socket={}", SOCKET.0.display()),
        // The tests run at the same time, and two devices cannot have one socket.
        "vsock" => {
            let name = format!("vsock{}", VSOCKS.fetch_add(1, Ordering::Relaxed));
            format!("socket={}", SOCKET.1.path().join(name).display())
        }
        "disk" => format!("file={},ro", DISK.path().display()),
        "share" => "dir=/usr".to_owned(),
        "vhost-user" => format!("id=2,socket={}", BACKENDS.path().join("socket").display()),
        _ => String::new(),
    }
}

fn spec(registration: &Registration) -> Arc<dyn DeviceSpec> {
    let parsed = (registration.parse)(&needed(registration));
    parsed.unwrap_or_else(|error| panic!("{}: {error}", registration.name))
}

/// The device as a machine with the default options builds it.
fn build(registration: &Registration) -> Arc<dyn PlatformDevice> {
    let spec = spec(registration);
    let resources = spec.resources();
    let file = tempfile::tempfile().unwrap();
    file.set_len(RAM as u64).unwrap();
    let range = (GuestAddress(0), RAM, Some(FileOffset::new(file, 0)));
    let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
    let companions = spec.companions("id0");
    let interrupts = companions.iter().flat_map(|companion| &companion.resources.interrupts);
    let interrupts = resources.interrupts.iter().chain(interrupts);
    let interrupts = interrupts.map(|interrupt| IrqLine::with_trigger(interrupt.trigger).unwrap());
    let parts = Parts {
        id: format!("{}0", registration.name),
        interrupts: interrupts.collect(),
        dma: resources.dma.map(|dma| DmaPort::new(memory, dma.address_bits, &[])),
        seed: Some(1),
        faults: FaultHandle::none(),
        events: Arc::new(MachineEvents::new().unwrap()),
    };
    spec.build(parts).unwrap()
}

#[test]
fn devices_describe_themselves() {
    let mut names = HashSet::new();
    for registration in REGISTRY {
        let name = registration.name;
        assert!(names.insert(name), "there are two devices {name}");
        let spec = spec(registration);
        let resources = spec.resources();
        let own = Companion { resources, node: spec.node("id0") };
        for Companion { resources, node } in std::iter::once(own).chain(spec.companions("id0")) {
            assert!(resources.regions.iter().all(|region| region.size > 0), "{name}: {resources:?}");
            assert!(
                node.properties.iter().any(|(property, _)| *property == "compatible"),
                "{name}: {node:?}"
            );
            let made_by_the_machine =
                ["reg", "interrupts", "clocks", "memory-region", "dma-coherent", "phandle"];
            let twice = node.properties.iter().find(|(property, _)| made_by_the_machine.contains(property));
            assert!(twice.is_none(), "{name}: the machine adds {twice:?}");
        }
        let keys = || registration.keys.iter().copied().flatten().map(|key| key.name);
        assert!(registration.changeable.iter().all(|name| keys().any(|key| key == *name)), "{name}");
        let help = options::help(registration.keys);
        assert!(
            registration.keys.iter().copied().flatten().all(|key| help.contains(key.name)),
            "{name}: {help}"
        );
    }
    for registration in anywhere() {
        let device = build(registration);
        let counted: Vec<&str> = device.counters().into_iter().map(|(counter, _)| counter).collect();
        assert_eq!(counted, registration.counters, "{}", registration.name);
        for key in registration.keys.iter().copied().flatten() {
            let is_changeable = registration.changeable.contains(&key.name);
            let error = device.set(key.name, "no such value").unwrap_err();
            assert_eq!(error.contains("no such value"), is_changeable, "{error}");
        }
        device.stop();
    }
}

#[test]
fn a_wrong_key_is_refused_by_every_device() {
    for registration in REGISTRY {
        let error = (registration.parse)("no-such-key=1").unwrap_err();
        assert!(error.contains(registration.name) && error.contains("no-such-key"), "{error}");
    }
}

/// An access: whether it stores, the region, the offset, and the data.
type Access = (bool, usize, u64, Vec<u8>);

fn access() -> impl Strategy<Value = Access> {
    let offset = prop_oneof![0..0x1100_u64, Just(u64::MAX), any::<u64>()];
    (any::<bool>(), 0..4_usize, offset, prop::collection::vec(any::<u8>(), 0..9))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_access_is_survived_and_a_device_stops(accesses in prop::collection::vec(access(), 0..64)) {
        for registration in anywhere() {
            let device = build(registration);
            for (is_store, region, offset, mut data) in accesses.clone() {
                if is_store {
                    device.store(region, offset, &data);
                } else {
                    data.fill(0);
                    device.load(region, offset, &mut data);
                }
            }
            device.pause();
            device.resume();
            device.reset();
            let start = Instant::now();
            device.stop();
            device.stop();
            prop_assert!(start.elapsed() < PATIENCE, "{} stops late", registration.name);
        }
    }
}
