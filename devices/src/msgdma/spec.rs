//! `--device msgdma`: its keys, its resources, its node, and its line in the registry.

use std::{str::FromStr, sync::Arc};

use super::{faults::FAULTS, regs};
use crate::platform::{
    DmaNeeds, Interrupt, Key, Node, Region, Registration, Resources, Specification, Trigger, WindowChoice,
    options::{self, COHERENT_KEY, Given, NODE_KEY, OptionError},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "DMA engine of Altera's FPGAs (altr,socfpga-msgdma): copies memory, as dmatest asks it to",
    most: 8,
    keys: &[KEYS],
    changeable: &[],
    parse: |text| match text.parse::<MsgdmaSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "msgdma";

/// The keys `window` and `address-bits` have defaults of their own here.
const KEYS: &[Key] = &[
    Key {
        name: "descriptors",
        value: "N",
        meaning: "size of the FIFO in descriptors, 8 to 1024 (default 128)",
    },
    Key {
        name: "response",
        value: "yes|no",
        meaning: "whether it has registers that report each descriptor (default yes); without them the\n\
                  driver counts interrupts",
    },
    Key {
        name: "window",
        value: "NAME",
        meaning: "CMA window, the only memory that it may access (default: none, it may access all memory)",
    },
    Key { name: "address-bits", value: "N", meaning: "address lines of its DMA, 1 to 64 (default 64)" },
    NODE_KEY,
    COHERENT_KEY,
];

/// The names of the engine's counters.
pub(super) const COUNTERS: [&str; 9] = [
    "descriptors",
    "bytes",
    "responses",
    "irqs",
    "bus_errors",
    "early_ends",
    "fifo_overflows",
    "abandoned",
    "resets",
];

/// The specification of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MsgdmaSpec {
    /// Descriptors that the FIFO holds.
    pub descriptors: usize,
    /// Whether it has the response region.
    pub response: bool,
    /// The way to guest memory.
    pub dma: DmaNeeds,
}

impl Default for MsgdmaSpec {
    /// 64 address lines and no window: the driver's clients hand it buffers from anywhere.
    fn default() -> Self {
        let dma = DmaNeeds { address_bits: 64, window: WindowChoice::Anywhere, ..DmaNeeds::default() };
        Self { descriptors: 128, response: true, dma }
    }
}

impl FromStr for MsgdmaSpec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut spec = Self::default();
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "descriptors" => {
                    spec.descriptors =
                        given.number(|count| (8..=1024).contains(count), "a number from 8 to 1024")?;
                }
                "response" => spec.response = given.flag()?,
                _ => {
                    spec.dma.set(given)?;
                }
            }
        }
        Ok(spec)
    }
}

impl Specification for MsgdmaSpec {
    fn resources(&self) -> Resources {
        let regions =
            [("csr", regs::CSR_SIZE), ("desc", regs::DESCRIPTOR_SIZE), ("resp", regs::RESPONSE_SIZE)];
        let count = if self.response { 3 } else { 2 };
        Resources {
            regions: regions[..count]
                .iter()
                .map(|&(name, size)| Region { name, size: size.into() })
                .collect(),
            interrupts: vec![Interrupt::unnamed(Trigger::Level)],
            dma: Some(self.dma.clone()),
            ..Resources::default()
        }
    }

    fn node(&self, _id: &str) -> Node {
        // Documentation/devicetree/bindings/dma/altr,msgdma.yaml. A client's cell is the number of the channel.
        Node::new("dma-controller").compatible(&["altr,socfpga-msgdma"]).number("#dma-cells", 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: MsgdmaSpec =
            "descriptors=8,response=no,address-bits=36,window=isp,node=1,coherent=no".parse().unwrap();
        assert_eq!((spec.descriptors, spec.response, spec.dma.address_bits), (8, false, 36));
        assert_eq!(spec.dma.window, WindowChoice::Named("isp".into()));
        assert_eq!((spec.dma.numa_node, spec.dma.coherent), (Some(1), false));
        assert_eq!("".parse::<MsgdmaSpec>().unwrap(), MsgdmaSpec::default());
        for (text, wrong) in [
            ("descriptors=7", "the msgdma's descriptors cannot be '7'; valid is a number from 8 to 1024"),
            ("response=maybe", "the msgdma's response cannot be 'maybe'; valid is yes or no"),
        ] {
            assert_eq!(text.parse::<MsgdmaSpec>().unwrap_err().to_string(), wrong);
        }
        let error = "descriptor=9".parse::<MsgdmaSpec>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean descriptors?"), "{error}");
    }

    #[test]
    fn its_node_is_that_of_the_binding() {
        let spec = MsgdmaSpec::default();
        let resources = spec.resources();
        let names: Vec<_> = resources.regions.iter().map(|region| region.name).collect();
        assert_eq!(names, ["csr", "desc", "resp"]);
        assert_eq!(resources.interrupts, [Interrupt::unnamed(Trigger::Level)]);
        assert_eq!(spec.node("msgdma0").name, "dma-controller");
        let without = MsgdmaSpec { response: false, ..spec };
        assert_eq!(without.resources().regions.len(), 2);
    }
}
