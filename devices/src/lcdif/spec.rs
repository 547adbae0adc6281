//! `--device lcdif`: its keys, its resources, its nodes, and its line in the registry.

use std::{str::FromStr, sync::Arc};

use media::Recording;

use super::{counters::COUNTERS, faults::FAULTS, panel::Panel, regs};
use crate::platform::{
    Cell, Clock, Companion, DmaNeeds, Interrupt, Key, Node, Region, Registration, Resources, Specification,
    Trigger,
    options::{self, DMA_KEYS, Given, OptionError},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "display controller of the i.MX28 with a panel (fsl,imx28-lcdif), for Linux's own driver mxsfb",
    most: 4,
    keys: &[KEYS, DMA_KEYS],
    changeable: &[],
    parse: |text| match text.parse::<LcdifSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "lcdif";

const KEYS: &[Key] = &[
    Key {
        name: "panel",
        value: "SIZE",
        meaning: "the panel, by its size: 480x272 (default), 640x480, 800x480; each has about 60 frames a second",
    },
    Key {
        name: "record",
        value: "FILE",
        meaning: "record what the panel shows: as a clip (.y4m) of every frame, or as pictures (.png) of each frame that\n\
                  differs from the one before. %05d in FILE is replaced by the number of the picture, from 0; without it\n\
                  the number is inserted before .png. Frames are omitted while the disk is too slow",
    },
];

/// The specification of the controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LcdifSpec {
    /// The panel.
    pub panel: Panel,
    /// The recording of what the panel shows.
    pub record: Option<Recording>,
    /// The way to guest memory. Linux's driver takes frames from the default window.
    pub dma: DmaNeeds,
}

impl FromStr for LcdifSpec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut spec = Self::default();
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "panel" => {
                    let panel = Panel::ALL.into_iter().find(|panel| panel.name() == value);
                    spec.panel = panel.ok_or_else(|| given.invalid("480x272, 640x480 or 800x480"))?;
                }
                "record" => spec.record = Some(given.recording()?),
                _ => {
                    spec.dma.set(given)?;
                }
            }
        }
        Ok(spec)
    }
}

/// The voltage of the panel's supply in microvolts.
const SUPPLY: u32 = 3_300_000;

impl Specification for LcdifSpec {
    fn resources(&self) -> Resources {
        Resources {
            regions: vec![Region::unnamed(regs::SIZE.into())],
            interrupts: vec![Interrupt::unnamed(Trigger::Level)],
            clocks: vec![Clock { name: "pix", frequency: self.panel.clock() }],
            dma: Some(self.dma.clone()),
        }
    }

    // Documentation/devicetree/bindings/display/fsl,lcdif.yaml
    fn node(&self, id: &str) -> Node {
        Node::new("display-controller").compatible(&["fsl,imx28-lcdif"]).child(port(id, "out", "panel-in"))
    }

    // Documentation/devicetree/bindings/display/panel/panel-simple.yaml
    fn companions(&self, id: &str) -> Vec<Companion> {
        let node = Node::new(format!("panel-{id}"))
            .compatible(&[self.panel.compatible()])
            .cells("power-supply", [Cell::Supply(SUPPLY)])
            .child(port(id, "panel-in", "out"));
        vec![Companion { resources: Resources::default(), node }]
    }
}

/// The port of a node, with the endpoint of the device `id` that is called `own` and goes to `other`.
fn port(id: &str, own: &str, other: &str) -> Node {
    let endpoint = Node::new("endpoint")
        .label(format!("{id}-{own}"))
        .cells("remote-endpoint", [Cell::phandle(format!("{id}-{other}"))]);
    Node::new("port").child(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::WindowChoice;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: LcdifSpec = "panel=800x480,record=a.y4m,window=video,address-bits=36".parse().unwrap();
        assert_eq!((spec.panel, spec.dma.address_bits), (Panel::W800, 36));
        assert_eq!(spec.record, Some(Recording::Clip("a.y4m".into())));
        assert_eq!(spec.dma.window, WindowChoice::Named("video".into()));
        assert_eq!("".parse::<LcdifSpec>().unwrap(), LcdifSpec::default());
        for (text, wrong) in [
            ("panel=9x9", "the lcdif's panel cannot be '9x9'; valid is 480x272, 640x480 or 800x480"),
            (
                "record=a.mp4",
                "the lcdif's record cannot be 'a.mp4'; valid is a file .y4m, or .png with at most one %d or, for N digits, %0Nd",
            ),
        ] {
            assert_eq!(text.parse::<LcdifSpec>().unwrap_err().to_string(), wrong);
        }
    }

    #[test]
    fn its_graph_is_closed() {
        let spec = LcdifSpec::default();
        let mut nodes = vec![spec.node("lcdif0")];
        nodes.extend(spec.companions("lcdif0").into_iter().map(|companion| companion.node));
        let labels: Vec<&str> =
            nodes.iter().flat_map(Node::walk).filter_map(|node| node.label.as_deref()).collect();
        let references: Vec<&str> = nodes.iter().flat_map(Node::references).collect();
        assert_eq!(
            (references, labels),
            (vec!["lcdif0-panel-in", "lcdif0-out"], vec!["lcdif0-out", "lcdif0-panel-in"])
        );
        assert_eq!(nodes.iter().flat_map(Node::supplies).collect::<Vec<_>>(), [SUPPLY]);
    }
}
