//! A node of the device tree as plain data, with references that the machine resolves to phandles.

/// A node.
///
/// ```
/// use devices::platform::{Cell, Node};
///
/// let sensor = Node::new("sensor@10").compatible(&["sony,imx219"]).cells("reg", [0x10.into()]).child(
///     Node::new("port")
///         .child(Node::new("endpoint").label("sensor-out").cells("remote-endpoint", [Cell::phandle("isp-in")])),
/// );
/// assert_eq!(sensor.children[0].children[0].label.as_deref(), Some("sensor-out"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name. The machine adds the unit address of a device's own node; children have theirs in the name.
    pub name: String,
    /// What other nodes call it by. A node that is referred to gets a phandle.
    pub label: Option<String>,
    /// Its properties, in their order.
    pub properties: Vec<(&'static str, Value)>,
    /// The nodes below it.
    pub children: Vec<Node>,
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The property is there: a flag.
    Empty,
    /// Texts.
    Strings(Vec<String>),
    /// 32-bit cells.
    Cells(Vec<Cell>),
    /// 64-bit numbers (`/bits/ 64`).
    Wide(Vec<u64>),
}

/// A 32-bit cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A number.
    Number(u32),
    /// The phandle of the node with this label.
    Phandle(String),
    /// The phandle of the `fixed-clock` of this frequency in hertz. The machine makes one node for all that refer to it.
    Clock(u32),
    /// The phandle of the `regulator-fixed` of this voltage in microvolts. The machine makes one node for all that refer to it.
    Supply(u32),
}

impl Cell {
    /// The phandle of the node with this label.
    pub fn phandle(label: impl Into<String>) -> Self {
        Self::Phandle(label.into())
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl Node {
    /// A node without properties.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Gives it a label.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property(mut self, name: &'static str, value: Value) -> Self {
        self.properties.push((name, value));
        self
    }

    /// Adds `compatible`, the most specific name first.
    #[must_use]
    pub fn compatible(self, names: &[&str]) -> Self {
        self.property("compatible", Value::Strings(names.iter().map(ToString::to_string).collect()))
    }

    /// Adds a property of 32-bit cells.
    #[must_use]
    pub fn cells(self, name: &'static str, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.property(name, Value::Cells(cells.into_iter().collect()))
    }

    /// Adds a property that is one number.
    #[must_use]
    pub fn number(self, name: &'static str, number: u32) -> Self {
        self.cells(name, [number.into()])
    }

    /// Adds a node below it.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// Whether its name has a unit address.
    pub fn has_address(&self) -> bool {
        self.name.contains('@')
    }

    /// The node and all nodes below it.
    pub fn walk(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        Box::new(std::iter::once(self).chain(self.children.iter().flat_map(Self::walk)))
    }

    /// The cells of the properties of this node and of those below it.
    fn all_cells(&self) -> impl Iterator<Item = &Cell> {
        let values = self.walk().flat_map(|node| node.properties.iter().map(|(_, value)| value));
        values.flat_map(|value| match value {
            Value::Cells(cells) => &cells[..],
            Value::Empty | Value::Strings(_) | Value::Wide(_) => &[],
        })
    }

    /// The frequencies of the clocks that this node and those below it refer to, in hertz.
    pub fn clocks(&self) -> impl Iterator<Item = u32> {
        self.all_cells().filter_map(|cell| match cell {
            Cell::Clock(frequency) => Some(*frequency),
            Cell::Number(_) | Cell::Phandle(_) | Cell::Supply(_) => None,
        })
    }

    /// The voltages of the supplies that this node and those below it refer to, in microvolts.
    pub fn supplies(&self) -> impl Iterator<Item = u32> {
        self.all_cells().filter_map(|cell| match cell {
            Cell::Supply(microvolts) => Some(*microvolts),
            Cell::Number(_) | Cell::Phandle(_) | Cell::Clock(_) => None,
        })
    }

    /// The labels that this node and those below it refer to.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.all_cells().filter_map(|cell| match cell {
            Cell::Phandle(label) => Some(label.as_str()),
            Cell::Number(_) | Cell::Clock(_) | Cell::Supply(_) => None,
        })
    }
}
