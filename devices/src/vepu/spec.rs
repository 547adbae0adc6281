//! `--device vepu`: its keys, its resources, its node, and its line in the registry.

use std::{str::FromStr, sync::Arc};

use super::{counters::COUNTERS, faults::FAULTS, regs};
use crate::platform::{
    Clock, DmaNeeds, Interrupt, Node, Region, Registration, Resources, Specification, Trigger,
    options::{self, DMA_KEYS, Given, OptionError},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "JPEG encoder of the RK3568 (rockchip,rk3568-vepu), for Linux's own driver hantro-vpu",
    // Linux's driver takes one instance alone ("missing multi-core support").
    most: 1,
    keys: &[DMA_KEYS],
    changeable: &[],
    parse: |text| match text.parse::<VepuSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "vepu";

/// The clocks of the encoder on the RK3568, in hertz.
const CLOCKS: [Clock; 2] =
    [Clock { name: "aclk", frequency: 297_000_000 }, Clock { name: "hclk", frequency: 150_000_000 }];

/// The specification of the encoder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VepuSpec {
    /// The way to guest memory. Linux's driver takes buffers from the default window.
    pub dma: DmaNeeds,
}

impl FromStr for VepuSpec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut spec = Self::default();
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            spec.dma.set(Given { device: NAME, key, value })?;
        }
        Ok(spec)
    }
}

impl Specification for VepuSpec {
    fn resources(&self) -> Resources {
        Resources {
            regions: vec![Region::unnamed(regs::SIZE.into())],
            interrupts: vec![Interrupt::unnamed(Trigger::Level)],
            clocks: CLOCKS.to_vec(),
            dma: Some(self.dma.clone()),
        }
    }

    // Documentation/devicetree/bindings/media/rockchip,rk3568-vepu.yaml
    fn node(&self, _id: &str) -> Node {
        Node::new("video-codec").compatible(&["rockchip,rk3568-vepu"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::WindowChoice;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: VepuSpec = "window=video,address-bits=36".parse().unwrap();
        assert_eq!((spec.dma.window, spec.dma.address_bits), (WindowChoice::Named("video".into()), 36));
        let error = "quality=9".parse::<VepuSpec>().unwrap_err().to_string();
        assert!(error.contains("quality"), "{error}");
    }
}
