//! The kinds of sensors, for a camera that can have any of them.

use super::{imx219, imx290, output::ImageSensor};
use crate::platform::{Cell, Node};

/// A kind of sensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Model {
    /// Sony IMX219: 3280x2464 pixels, samples of 8 and 10 bits, two lanes.
    #[default]
    Imx219,
    /// Sony IMX290: 1920x1080 pixels, samples of 10 and 12 bits, four lanes.
    Imx290,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Imx219, Self::Imx290];

    /// Its name, and that of Linux's driver.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imx219 => "imx219",
            Self::Imx290 => "imx290",
        }
    }

    /// Its 7-bit address on the I2C bus.
    pub fn address(self) -> u8 {
        match self {
            Self::Imx219 => imx219::ADDRESS,
            Self::Imx290 => imx290::ADDRESS,
        }
    }

    /// Width and height of its array, in pixels.
    pub fn array(self) -> [u32; 2] {
        match self {
            Self::Imx219 => imx219::ARRAY,
            Self::Imx290 => imx290::ARRAY,
        }
    }

    /// The data lanes of its link, as `data-lanes` of the device tree has them.
    pub fn lanes(self) -> impl Iterator<Item = Cell> {
        let lanes = match self {
            Self::Imx219 => imx219::LANES,
            Self::Imx290 => imx290::LANES,
        };
        (1..=lanes).map(Cell::from)
    }

    /// A chip after power-on.
    pub fn chip(self) -> Box<dyn ImageSensor> {
        match self {
            Self::Imx219 => Box::new(imx219::Imx219::new()),
            Self::Imx290 => Box::new(imx290::Imx290::new()),
        }
    }

    /// Its node, below that of the bus. `label` is that of its endpoint, and `receiver` that of the receiver's.
    pub fn node(self, label: String, receiver: String) -> Node {
        let node = Node::new(format!("camera-sensor@{:x}", self.address()));
        let (node, link_frequencies) = match self {
            Self::Imx219 => (imx219::properties(node), imx219::link_frequencies()),
            Self::Imx290 => (imx290::properties(node), imx290::link_frequencies()),
        };
        let endpoint = Node::new("endpoint")
            .label(label)
            .cells("data-lanes", self.lanes())
            .property("link-frequencies", link_frequencies)
            .cells("remote-endpoint", [Cell::phandle(receiver)]);
        node.number("reg", self.address().into())
            .number("rotation", 0)
            // V4L2_FWNODE_ORIENTATION_EXTERNAL
            .number("orientation", 2)
            .child(Node::new("port").child(endpoint))
    }
}
