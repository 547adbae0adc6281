//! A device tree as a list of items that can be left out one by one, as source and as a blob.

use std::fmt::Write as _;

use vm_fdt::{FdtReserveEntry, FdtWriter};

use super::platform::Platform;

/// The compatible of the devices that the guest's module drives (tests/guest/pools/pools.c).
pub const USER: &str = "minivmm,pools";

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// None: the property is a mark.
    Mark,
    /// Cells.
    Cells(Vec<u32>),
    /// Strings.
    Strings(Vec<&'static str>),
}

/// A node without children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its properties.
    pub properties: Vec<(String, Value)>,
}

/// A part of a tree under test. Without it, the rest is still a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An entry of /memreserve/: address and size.
    Reservation(u64, u64),
    /// A child of the root. A name with a slash is that of a child of another one.
    Top(Node),
    /// A child of /reserved-memory.
    Region(Node),
    /// A child of a second /reserved-memory.
    Second(Node),
    /// A property of /chosen.
    Chosen(&'static str, Value),
    /// A property of /reserved-memory, in the place of the right one of that name; none with None.
    Parent(&'static str, Option<Value>),
    /// A word of the kernel's command line.
    Word(String),
}

/// A tree for a boot.
#[derive(Debug, Clone)]
pub struct Tree {
    platform: Platform,
    reservations: Vec<(u64, u64)>,
    bootargs: String,
    parent: Vec<(String, Value)>,
    chosen: Vec<(String, Value)>,
    regions: Vec<Node>,
    second: Vec<Node>,
    tops: Vec<Node>,
}

impl Node {
    /// A node of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), properties: Vec::new() }
    }

    /// With a mark.
    #[must_use]
    pub fn mark(self, name: &str) -> Self {
        self.with(name, Value::Mark)
    }

    /// With a property of numbers of two cells.
    #[must_use]
    pub fn numbers(self, name: &str, numbers: &[u64]) -> Self {
        self.with(name, Value::Cells(cells(numbers)))
    }

    /// With a property of cells.
    #[must_use]
    pub fn cells(self, name: &str, cells: &[u32]) -> Self {
        self.with(name, Value::Cells(cells.to_vec()))
    }

    /// With a property of strings.
    #[must_use]
    pub fn strings(self, name: &str, strings: &[&'static str]) -> Self {
        self.with(name, Value::Strings(strings.to_vec()))
    }

    /// With a property.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.properties.push((name.to_owned(), value));
        self
    }
}

/// Numbers as two cells each.
pub fn cells(numbers: &[u64]) -> Vec<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "each cell has its half")]
    numbers.iter().flat_map(|number| [(number >> 32) as u32, *number as u32]).collect()
}

impl Tree {
    /// The tree of these items for a machine. A machine whose RAM no tree describes has no memory nodes, and reads none of /chosen but
    /// the initramfs.
    pub fn new(platform: Platform, items: &[Item]) -> Self {
        let mut tree = Self {
            platform,
            reservations: Vec::new(),
            bootargs: platform.bootargs(),
            parent: vec![
                ("#address-cells".to_owned(), Value::Cells(vec![2])),
                ("#size-cells".to_owned(), Value::Cells(vec![2])),
                ("ranges".to_owned(), Value::Mark),
            ],
            chosen: Vec::new(),
            regions: Vec::new(),
            second: Vec::new(),
            tops: Vec::new(),
        };
        for item in items {
            match item {
                Item::Reservation(base, size) => tree.reservations.push((*base, *size)),
                Item::Top(node) if platform != Platform::Virt && !is_asked(node) => {}
                Item::Top(node) => tree.tops.push(node.clone()),
                Item::Region(node) => tree.regions.push(node.clone()),
                Item::Second(node) => tree.second.push(node.clone()),
                Item::Chosen(..) if platform != Platform::Virt => {}
                Item::Chosen(name, value) => {
                    tree.chosen.retain(|(known, _)| known != name);
                    tree.chosen.push(((*name).to_owned(), value.clone()));
                }
                Item::Word(word) => tree.bootargs += &format!(" {word}"),
                Item::Parent(name, value) => {
                    tree.parent.retain(|(known, _)| known != name);
                    tree.parent.extend(value.clone().map(|value| ((*name).to_owned(), value)));
                }
            }
        }
        tree
    }

    /// The kernel's command line.
    pub fn bootargs(&self) -> &str {
        &self.bootargs
    }

    /// Whether the guest's module drives the device called `name`.
    pub fn is_asked(&self, name: &str) -> bool {
        self.tops.iter().any(|node| node.name == name && is_asked(node))
    }

    /// All nodes below the root, with their children, and the root's properties.
    fn nodes(&self) -> (Node, Vec<(Node, Vec<Node>)>) {
        let (devices, others): (Vec<Node>, Vec<Node>) = self.tops.iter().cloned().partition(is_asked);
        let mut nodes = self.platform.nodes(devices);
        let mut chosen = self.platform.chosen();
        chosen.properties.extend(self.chosen.iter().cloned());
        nodes.push((chosen, Vec::new()));
        let (inner, outer): (Vec<Node>, Vec<Node>) =
            others.into_iter().partition(|node| node.name.contains('/'));
        nodes.extend(outer.into_iter().map(|node| {
            let name = |child: &Node| {
                child
                    .name
                    .split_once('/')
                    .filter(|(parent, _)| *parent == node.name)
                    .map(|(_, name)| name.to_owned())
            };
            let children =
                inner.iter().filter_map(|child| Some(Node { name: name(child)?, ..child.clone() }));
            let children = children.collect();
            (node, children)
        }));
        let parent = Node { name: "reserved-memory".to_owned(), properties: self.parent.clone() };
        if !self.regions.is_empty() {
            nodes.push((parent.clone(), self.regions.clone()));
        }
        if !self.second.is_empty() {
            let parent = Node { name: "reserved-memory@0".to_owned(), ..parent };
            nodes.push((parent, self.second.clone()));
        }
        (self.platform.root(), nodes)
    }

    /// The flattened tree.
    ///
    /// # Panics
    /// If /memreserve/ entries overlap, or a name is invalid.
    pub fn blob(&self) -> Vec<u8> {
        let reservations: Vec<_> =
            self.reservations.iter().map(|(base, size)| FdtReserveEntry::new(*base, *size)).collect();
        let reservations: Result<Vec<_>, _> = reservations.into_iter().collect();
        let mut fdt = FdtWriter::new_with_mem_reserv(&reservations.expect("entries have a size"))
            .expect("entries are apart");
        let (root, nodes) = self.nodes();
        let begun = fdt.begin_node("").expect("the root has a name");
        put(&mut fdt, &root);
        for (node, children) in &nodes {
            let begun = fdt.begin_node(&node.name).expect("nodes have names");
            put(&mut fdt, node);
            if node.name == "chosen" {
                fdt.property_string("bootargs", &self.bootargs).expect("it has no zero");
            }
            for child in children {
                let begun = fdt.begin_node(&child.name).expect("nodes have names");
                put(&mut fdt, child);
                fdt.end_node(begun).expect("it was begun last");
            }
            fdt.end_node(begun).expect("it was begun last");
        }
        fdt.end_node(begun).expect("it was begun last");
        fdt.finish().expect("all nodes have ended")
    }

    /// The source, which dtc and `minivmm check` read.
    pub fn dts(&self) -> String {
        let mut text = "/dts-v1/;\n".to_owned();
        for (base, size) in &self.reservations {
            let _ = writeln!(text, "/memreserve/ {base:#x} {size:#x};");
        }
        let (root, nodes) = self.nodes();
        text += "/ {\n";
        write_properties(&mut text, &root, 1);
        for (node, children) in &nodes {
            let _ = writeln!(text, "\t{} {{", node.name);
            write_properties(&mut text, node, 2);
            if node.name == "chosen" {
                let _ = writeln!(text, "\t\tbootargs = \"{}\";", self.bootargs.replace('"', "\\\""));
            }
            for child in children {
                let _ = writeln!(text, "\t\t{} {{", child.name);
                write_properties(&mut text, child, 3);
                text += "\t\t};\n";
            }
            text += "\t};\n";
        }
        text + "};\n"
    }
}

/// Whether the guest's module drives a device.
fn is_asked(node: &Node) -> bool {
    node.properties.iter().any(|(name, value)| name == "compatible" && *value == Value::Strings(vec![USER]))
}

fn put(fdt: &mut FdtWriter, node: &Node) {
    for (name, value) in &node.properties {
        let put = match value {
            Value::Mark => fdt.property_null(name),
            Value::Cells(cells) => fdt.property_array_u32(name, cells),
            Value::Strings(strings) => {
                fdt.property_string_list(name, strings.iter().map(ToString::to_string).collect())
            }
        };
        put.expect("properties have names");
    }
}

fn write_properties(text: &mut String, node: &Node, depth: usize) {
    for (name, value) in &node.properties {
        let value = match value {
            Value::Mark => String::new(),
            Value::Cells(cells) => {
                let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:#x}")).collect();
                format!(" = <{}>", cells.join(" "))
            }
            Value::Strings(strings) => {
                let strings: Vec<String> = strings.iter().map(|string| format!("\"{string}\"")).collect();
                format!(" = {}", strings.join(", "))
            }
        };
        let _ = writeln!(text, "{:\t<depth$}{name}{value};", "");
    }
}
