//! The list of devices: from each entry come its bus ranges, its interrupt lines and its node in the tree.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use cma::Window;
use devices::{
    exit::ExitSpec,
    platform::{Cell, Companion, DeviceSpec, Node, Resources, Specification, Value, WindowChoice},
    pvpanic::PvpanicSpec,
    serial::SerialSpec,
    virtio::{block::BlockSpec, console::ConsoleSpec, rng::EntropySpec},
};

use crate::{
    arch,
    boot::{error::LoadError, shared_nodes},
    machine::config::{CmaMode, Config},
};

/// Who builds a device.
#[derive(Debug, Clone)]
pub enum Maker {
    /// The machine: the serial port, to which the machine's own streams are connected.
    Serial,
    /// The machine: the console, to which the machine's own streams are connected.
    Console,
    /// The machine: the disk for the guest's /out, whose file is beside the folder of `--out`.
    Disk,
    /// The device's specification.
    Spec(Arc<dyn DeviceSpec>),
}

/// A device with its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in reports, plans of faults and experiments, made of its kind and a number.
    pub id: String,
    /// Its name in the registry, or its id if the machine always has it.
    pub kind: &'static str,
    /// Its number among the devices of its kind.
    pub number: u32,
    /// Who builds it.
    pub maker: Maker,
    /// What all of its nodes need.
    pub resources: Resources,
    /// Where each of its register regions answers.
    pub regions: Vec<Range<u64>>,
    /// Its interrupt lines.
    pub lines: Vec<u32>,
    /// Index of the CMA window that it uses.
    pub window: Option<usize>,
    /// Its whole node, and those of its companions.
    pub nodes: Vec<Node>,
}

impl Entry {
    /// Path of its own node.
    pub fn path(&self) -> String {
        format!("/soc/{}", self.nodes[0].name)
    }
}

/// The devices of a machine, placed, and what they share.
#[derive(Debug, Clone)]
pub struct Platform {
    /// The devices, in the order of their addresses.
    pub devices: Vec<Entry>,
    /// The nodes that they share.
    pub shared: Vec<Node>,
    /// The phandles of all nodes that have a label.
    pub phandles: Phandles,
}

/// From one device's range to the next: every register region has a page of its own, also where a page has 64 KiB, so that a
/// guest can map each to a process by itself.
const REGION_STEP: u64 = 64 << 10;

/// The label of the exit device's node.
pub const EXIT_LABEL: &str = devices::exit::LABEL;

/// The label of a CMA window's node.
pub fn window_label(window: &Window) -> String {
    format!("window-{}", window.name)
}

/// The phandles of nodes with a label: numbers from `FIRST` on, in the order of the labels' nodes.
#[derive(Debug, Clone, Default)]
pub struct Phandles(BTreeMap<String, u32>);

impl Phandles {
    /// The first number; those below are the architecture's ([`arch::INTERRUPT_PARENT`]).
    const FIRST: u32 = arch::INTERRUPT_PARENT + 1;

    fn new(labels: impl Iterator<Item = String>) -> Self {
        Self(labels.zip(Self::FIRST..).collect())
    }

    /// The phandle of the node with this label.
    pub fn get(&self, label: &str) -> Option<u32> {
        self.0.get(label).copied()
    }
}

/// Whether the tree has a node for `window`.
pub fn in_tree(config: &Config, window: &Window) -> bool {
    !window.default || config.cma_mode != CmaMode::Cmdline
}

/// Walks the list of the devices of `config` and gives each its place.
///
/// # Errors
/// For a device that names a window or NUMA node that does not exist, and for more devices than there are interrupt lines.
pub fn place(config: &Config, windows: &[Window]) -> Result<Platform, LoadError> {
    let mut placing =
        Placing { config, windows, base: arch::MMIO_START, lines: arch::IRQS, devices: Vec::new() };
    placing.add("serial", "serial", Maker::Serial, &SerialSpec)?;
    for (id, spec) in
        [("exit", Arc::new(ExitSpec) as Arc<dyn DeviceSpec>), ("pvpanic", Arc::new(PvpanicSpec))]
    {
        placing.add(id, id, Maker::Spec(spec.clone()), &*spec)?;
    }
    placing.add("console", "console", Maker::Console, &ConsoleSpec)?;
    let entropy: Arc<dyn DeviceSpec> = Arc::new(EntropySpec);
    placing.add("entropy", "entropy", Maker::Spec(entropy.clone()), &*entropy)?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for request in &config.devices {
        let kind = request.registration.name;
        let number = placing.devices.iter().filter(|entry| entry.kind == kind).count();
        let id = format!("{kind}{number}");
        if let Some(name) = request.spec.name_in_guest()
            && let Some(first) = names.insert(name.clone(), id.clone())
        {
            return Err(LoadError::SameName { first, second: id, name });
        }
        placing.add(&id, kind, Maker::Spec(request.spec.clone()), &*request.spec)?;
        if number >= request.registration.most {
            let count = config.devices.iter().filter(|other| other.registration.name == kind).count();
            return Err(LoadError::TooMany { kind, most: request.registration.most, count });
        }
    }
    // It is the last, so that the others are in the same places without it.
    if config.out.is_some() {
        placing.add("disk", "disk", Maker::Disk, &BlockSpec)?;
    }
    let devices = placing.devices;
    let nodes = devices.iter().flat_map(|entry| &entry.nodes);
    let shared = shared_nodes::of(nodes.clone());
    let labels = nodes.chain(&shared).flat_map(|node| node.walk().filter_map(|node| node.label.clone()));
    let phandles = Phandles::new(labels.chain(windows.iter().map(window_label)));
    for entry in &devices {
        let mut references = entry.nodes.iter().flat_map(Node::references);
        if let Some(label) = references.find(|label| phandles.get(label).is_none()) {
            return Err(LoadError::Reference { device: entry.id.clone(), label: label.to_owned() });
        }
    }
    Ok(Platform { devices, shared, phandles })
}

struct Placing<'a> {
    config: &'a Config,
    windows: &'a [Window],
    base: u64,
    lines: Range<u32>,
    devices: Vec<Entry>,
}

impl Placing<'_> {
    fn add(
        &mut self,
        id: &str,
        kind: &'static str,
        maker: Maker,
        spec: &dyn Specification,
    ) -> Result<(), LoadError> {
        let own = Companion { resources: spec.resources(), node: spec.node(id) };
        let window = self.window(kind, &own.resources)?;
        let mut resources = Resources { dma: own.resources.dma.clone(), ..Resources::default() };
        let (mut regions, mut lines, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        for Companion { resources: needs, node } in std::iter::once(own).chain(spec.companions(id)) {
            let places = needs.regions.iter().map(|region| {
                let start = self.base;
                self.base += region.size.next_multiple_of(REGION_STEP);
                start..start + region.size
            });
            let places: Vec<Range<u64>> = places.collect();
            let wires: Vec<u32> = self.lines.by_ref().take(needs.interrupts.len()).collect();
            if wires.len() < needs.interrupts.len() {
                return Err(LoadError::NoLine { device: id.to_owned(), lines: arch::IRQS.len() });
            }
            nodes.push(self.node(node, &needs, &places, &wires, window));
            regions.extend(places);
            lines.extend(wires);
            resources.regions.extend(needs.regions);
            resources.interrupts.extend(needs.interrupts);
            resources.clocks.extend(needs.clocks);
        }
        let number = self.devices.iter().filter(|entry| entry.kind == kind).count();
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.devices.push(Entry {
            id: id.to_owned(),
            kind,
            number,
            maker,
            resources,
            regions,
            lines,
            window,
            nodes,
        });
        Ok(())
    }

    /// Index of the window that a device with these resources uses.
    fn window(&self, kind: &'static str, resources: &Resources) -> Result<Option<usize>, LoadError> {
        let Some(dma) = &resources.dma else { return Ok(None) };
        let numa = self.config.numa;
        if let Some(node) = dma.numa_node.filter(|node| *node >= u32::from(numa)) {
            return Err(LoadError::DeviceNode { kind, node, nodes: numa });
        }
        match &dma.window {
            WindowChoice::Default => Ok(self.windows.iter().position(|window| window.default)),
            WindowChoice::Anywhere => Ok(None),
            WindowChoice::Named(name) => match self.windows.iter().position(|window| window.name == *name) {
                Some(index) => Ok(Some(index)),
                None => Err(LoadError::DeviceWindow {
                    kind,
                    name: name.clone(),
                    windows: self.windows.iter().map(|window| window.name.clone()).collect(),
                }),
            },
        }
    }

    /// The device's own `node` with its unit address and the properties that follow from its resources.
    fn node(
        &self,
        mut node: Node,
        resources: &Resources,
        regions: &[Range<u64>],
        lines: &[u32],
        window: Option<usize>,
    ) -> Node {
        let mut properties: Vec<(&'static str, Value)> = Vec::new();
        let names = |names: Vec<&'static str>| {
            let is_named = names.iter().any(|name| !name.is_empty());
            is_named.then(|| Value::Strings(names.into_iter().map(ToOwned::to_owned).collect()))
        };
        if let Some(first) = regions.first() {
            node.name = format!("{}@{:x}", node.name, first.start);
            let reg = regions.iter().flat_map(|region| [region.start, region.end - region.start]);
            properties.push(("reg", Value::Wide(reg.collect())));
            let names = names(resources.regions.iter().map(|region| region.name).collect());
            properties.extend(names.map(|names| ("reg-names", names)));
        }
        if !lines.is_empty() {
            let cells = lines.iter().zip(&resources.interrupts);
            let cells =
                cells.flat_map(|(line, interrupt)| arch::interrupt_specifier(*line, interrupt.trigger));
            properties.push(("interrupts", Value::Cells(cells.map(Cell::from).collect())));
            let names = names(resources.interrupts.iter().map(|interrupt| interrupt.name).collect());
            properties.extend(names.map(|names| ("interrupt-names", names)));
        }
        if !resources.clocks.is_empty() {
            let clocks = resources.clocks.iter().map(|clock| Cell::Clock(clock.frequency));
            properties.push(("clocks", Value::Cells(clocks.collect())));
            let names = names(resources.clocks.iter().map(|clock| clock.name).collect());
            properties.extend(names.map(|names| ("clock-names", names)));
        }
        if let Some(dma) = &resources.dma {
            let window = window.map(|index| &self.windows[index]).filter(|window| {
                in_tree(self.config, window)
                    // The command line overrides the default window's node. A driver whose device refers to that node gets no
                    // window from it, and uses the default window without a reference.
                    && (dma.window != WindowChoice::Default || self.config.cma_mode == CmaMode::Dt)
            });
            properties
                .extend(window.map(|window| {
                    ("memory-region", Value::Cells(vec![Cell::phandle(window_label(window))]))
                }));
            if let Some(numa_node) = dma.numa_node.filter(|_| self.config.numa > 1) {
                properties.push(("numa-node-id", Value::Cells(vec![numa_node.into()])));
            }
            if dma.coherent {
                properties.push(("dma-coherent", Value::Empty));
            }
        }
        let behind =
            node.properties.iter().position(|(name, _)| *name == "compatible").map_or(0, |at| at + 1);
        node.properties.splice(behind..behind, properties);
        node
    }
}

#[cfg(test)]
mod tests {
    use devices::platform::{Clock, DmaNeeds, Interrupt, Region, Trigger};

    use super::*;

    /// A device with everything that can be described.
    #[derive(Debug)]
    struct Everything;

    impl Specification for Everything {
        fn resources(&self) -> Resources {
            Resources {
                regions: vec![Region { name: "csr", size: 0x20 }, Region { name: "big", size: 0x1_0001 }],
                interrupts: vec![
                    Interrupt { name: "done", trigger: Trigger::Level },
                    Interrupt { name: "error", trigger: Trigger::Edge },
                ],
                clocks: vec![
                    Clock { name: "core", frequency: 24_000_000 },
                    Clock { name: "bus", frequency: 100_000_000 },
                    Clock { name: "ref", frequency: 24_000_000 },
                ],
                dma: Some(DmaNeeds::default()),
            }
        }

        fn node(&self, id: &str) -> Node {
            let (grf, endpoint) = (format!("{id}-grf"), format!("{id}-endpoint"));
            Node::new("isp")
                .compatible(&["test,isp", "syscon"])
                .label(grf.as_str())
                .cells("test,link", [Cell::phandle(endpoint.as_str()), 3.into()])
                .child(Node::new("port").child(
                    Node::new("endpoint").label(endpoint).cells("remote-endpoint", [Cell::phandle(grf)]),
                ))
        }
    }

    fn placing<'a>(config: &'a Config, windows: &'a [Window]) -> Placing<'a> {
        Placing { config, windows, base: arch::MMIO_START, lines: arch::IRQS, devices: Vec::new() }
    }

    #[test]
    fn resources_become_properties_and_ranges() {
        let config = Config::default();
        let mut placing = placing(&config, &[]);
        placing.add("isp0", "isp", Maker::Serial, &Everything).unwrap();
        placing.add("isp1", "isp", Maker::Serial, &Everything).unwrap();
        let [first, second] = &placing.devices[..] else { panic!("{:?}", placing.devices) };
        let start = arch::MMIO_START;
        assert_eq!(first.regions, [start..start + 0x20, start + 0x1_0000..start + 0x2_0001]);
        assert_eq!(second.regions[0].start, start + 0x3_0000, "each region has pages of its own");
        assert_eq!((first.lines.len(), second.number), (2, 1));
        assert_eq!(first.nodes[0].name, format!("isp@{start:x}"));
        let names: Vec<_> = first.nodes[0].properties.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "compatible",
                "reg",
                "reg-names",
                "interrupts",
                "interrupt-names",
                "clocks",
                "clock-names",
                "dma-coherent",
                "test,link"
            ]
        );
        let references: Vec<_> = first.nodes[0].references().collect();
        assert_eq!(references, ["isp0-endpoint", "isp0-grf"]);
        assert_eq!(first.nodes[0].clocks().collect::<Vec<_>>(), [24_000_000, 100_000_000, 24_000_000]);
    }

    /// A device of two nodes.
    #[derive(Debug)]
    struct WithBus;

    impl Specification for WithBus {
        fn resources(&self) -> Resources {
            Everything.resources()
        }

        fn node(&self, id: &str) -> Node {
            Everything.node(id)
        }

        fn companions(&self, _id: &str) -> Vec<Companion> {
            let resources = Resources {
                regions: vec![Region::unnamed(0x100)],
                interrupts: vec![Interrupt::unnamed(Trigger::Level)],
                clocks: vec![Clock { name: "", frequency: 7 }],
                dma: None,
            };
            let chip = Node::new("chip@10").cells("clocks", [Cell::Clock(9)]);
            vec![Companion { resources, node: Node::new("i2c").compatible(&["test,i2c"]).child(chip) }]
        }
    }

    #[test]
    fn companions_have_places_of_their_own_behind_the_device() {
        let config = Config::default();
        let mut placing = placing(&config, &[]);
        placing.add("isp0", "isp", Maker::Serial, &WithBus).unwrap();
        let [entry] = &placing.devices[..] else { panic!("{:?}", placing.devices) };
        let start = arch::MMIO_START + 0x3_0000;
        assert_eq!(entry.regions[2], start..start + 0x100);
        assert_eq!((entry.lines.len(), entry.resources.interrupts.len()), (3, 3));
        assert_eq!(entry.nodes[1].name, format!("i2c@{start:x}"));
        assert_eq!(entry.nodes[1].clocks().collect::<Vec<_>>(), [7, 9]);
        assert_eq!(entry.path(), format!("/soc/isp@{:x}", arch::MMIO_START));
    }

    #[test]
    fn lines_that_do_not_suffice_are_an_error() {
        let config = Config::default();
        let mut placing = placing(&config, &[]);
        let refused = (0..40).find_map(|_| placing.add("isp", "isp", Maker::Serial, &Everything).err());
        assert!(matches!(refused, Some(LoadError::NoLine { .. })), "{refused:?}");
    }
}
