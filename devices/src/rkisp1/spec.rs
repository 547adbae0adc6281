//! `--device rkisp1`: its keys, its resources, its nodes, and its line in the registry.

use std::{str::FromStr, sync::Arc};

use super::{counters::COUNTERS, faults::FAULTS, grf, regs};
use crate::{
    i2c::rk3x,
    platform::{
        Cell, Clock, Companion, DmaNeeds, Interrupt, Key, Node, Region, Registration, Resources,
        Specification, Trigger, Value,
        options::{self, DMA_KEYS, Given, OptionError},
    },
    sensors::{
        Model,
        options::{LAMP_KEY, SCENE_KEYS, SceneOptions},
    },
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "camera of the RK3399: an image sensor on I2C, D-PHY and ISP (rockchip,rk3399-cif-isp), for Linux's own drivers",
    most: 4,
    keys: &[KEYS, SCENE_KEYS, DMA_KEYS],
    changeable: &[LAMP],
    parse: |text| match text.parse::<Rkisp1Spec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &FAULTS,
    counters: &COUNTERS,
};

pub(super) const NAME: &str = "rkisp1";

/// The key for the light on the scene.
pub(super) const LAMP: &str = LAMP_KEY.name;

const KEYS: &[Key] = &[
    Key { name: "sensor", value: "imx219|imx290", meaning: "the image sensor (default imx219)" },
    Key { name: "seed", value: "N", meaning: "seed of everything random (default: the machine's)" },
];

/// The specification of the camera.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rkisp1Spec {
    /// The sensor.
    pub sensor: Model,
    /// What the sensor looks at.
    pub scene: SceneOptions,
    /// The way to guest memory. Linux's driver takes buffers from the default window.
    pub dma: DmaNeeds,
    /// Seed of the noise. None: the machine's seed.
    pub seed: Option<u64>,
}

impl FromStr for Rkisp1Spec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut spec = Self::default();
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "sensor" => {
                    let model = Model::ALL.into_iter().find(|model| model.name() == value);
                    spec.sensor = model.ok_or_else(|| given.invalid("imx219 or imx290"))?;
                }
                "seed" => spec.seed = Some(given.number(|_| true, "a whole number below 2^64")?),
                _ => {
                    if !spec.scene.set(given)? {
                        spec.dma.set(given)?;
                    }
                }
            }
        }
        Ok(spec)
    }
}

/// The clock of the D-PHY's reference.
const REFERENCE: u32 = 24_000_000;

/// The clocks of the buses of the RK3399, in hertz.
const ACLK: u32 = 400_000_000;
const PCLK: u32 = 100_000_000;

impl Specification for Rkisp1Spec {
    fn resources(&self) -> Resources {
        Resources {
            regions: vec![Region::unnamed(regs::SIZE.into())],
            interrupts: vec![Interrupt::unnamed(Trigger::Level)],
            clocks: vec![
                Clock { name: "isp", frequency: ACLK },
                Clock { name: "aclk", frequency: ACLK },
                Clock { name: "hclk", frequency: PCLK },
            ],
            dma: Some(self.dma.clone()),
        }
    }

    // Documentation/devicetree/bindings/media/rockchip-isp1.yaml
    fn node(&self, id: &str) -> Node {
        let endpoint = Node::new("endpoint")
            .label(format!("{id}-in"))
            .cells("data-lanes", self.sensor.lanes())
            .cells("remote-endpoint", [Cell::phandle(format!("{id}-sensor-out"))]);
        let port = Node::new("port@0").number("reg", 0).child(endpoint);
        let ports = Node::new("ports").number("#address-cells", 1).number("#size-cells", 0).child(port);
        Node::new("isp")
            .compatible(&["rockchip,rk3399-cif-isp"])
            .cells("phys", [Cell::phandle(format!("{id}-dphy"))])
            .property("phy-names", Value::Strings(vec!["dphy".into()]))
            .child(ports)
    }

    fn companions(&self, id: &str) -> Vec<Companion> {
        vec![grf_companion(id), i2c_companion(id, self.sensor)]
    }
}

/// The general register file with the D-PHY (Documentation/devicetree/bindings/phy/rockchip-mipi-dphy-rx0.yaml).
fn grf_companion(id: &str) -> Companion {
    let names = ["dphy-ref", "dphy-cfg", "grf"].map(ToOwned::to_owned);
    let phy = Node::new("mipi-dphy-rx0")
        .label(format!("{id}-dphy"))
        .compatible(&["rockchip,rk3399-mipi-dphy-rx0"])
        .cells("clocks", [REFERENCE, PCLK, PCLK].map(Cell::Clock))
        .property("clock-names", Value::Strings(names.into()))
        .number("#phy-cells", 0);
    Companion {
        resources: Resources { regions: vec![Region::unnamed(grf::SIZE.into())], ..Resources::default() },
        node: Node::new("syscon")
            .compatible(&["rockchip,rk3399-grf", "syscon", "simple-mfd"])
            .number("#address-cells", 1)
            .number("#size-cells", 1)
            .child(phy),
    }
}

/// The I2C controller (Documentation/devicetree/bindings/i2c/i2c-rk3x.yaml) with the sensor.
fn i2c_companion(id: &str, sensor: Model) -> Companion {
    Companion {
        resources: Resources {
            regions: vec![Region::unnamed(rk3x::regs::SIZE.into())],
            interrupts: vec![Interrupt::unnamed(Trigger::Level)],
            clocks: vec![Clock { name: "i2c", frequency: 2 * PCLK }, Clock { name: "pclk", frequency: PCLK }],
            dma: None,
        },
        node: Node::new("i2c")
            .compatible(&["rockchip,rk3399-i2c"])
            .number("#address-cells", 1)
            .number("#size-cells", 0)
            .number("clock-frequency", 400_000)
            .child(sensor.node(format!("{id}-sensor-out"), format!("{id}-in"))),
    }
}

#[cfg(test)]
mod tests {
    use media::Pattern;

    use super::*;
    use crate::platform::WindowChoice;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: Rkisp1Spec =
            "sensor=imx290,scene=checker,noise=no,lamp=1:0.5:2,seed=9,window=isp".parse().unwrap();
        assert_eq!((spec.sensor, spec.scene.pattern, spec.seed), (Model::Imx290, Pattern::Checker, Some(9)));
        assert_eq!((spec.scene.sensor.noise, spec.scene.sensor.lamp), (false, [1000, 500, 2000]));
        assert_eq!(spec.dma.window, WindowChoice::Named("isp".into()));
        assert_eq!("".parse::<Rkisp1Spec>().unwrap(), Rkisp1Spec::default());
        let error = "sensor=ov5647".parse::<Rkisp1Spec>().unwrap_err().to_string();
        assert_eq!(error, "the rkisp1's sensor cannot be 'ov5647'; valid is imx219 or imx290");
    }

    #[test]
    fn its_graph_is_closed() {
        for sensor in Model::ALL {
            let spec = Rkisp1Spec { sensor, ..Rkisp1Spec::default() };
            let mut nodes = vec![spec.node("rkisp10")];
            nodes.extend(spec.companions("rkisp10").into_iter().map(|companion| companion.node));
            let labels: Vec<&str> =
                nodes.iter().flat_map(Node::walk).filter_map(|node| node.label.as_deref()).collect();
            let references: Vec<&str> = nodes.iter().flat_map(Node::references).collect();
            assert_eq!(references, ["rkisp10-dphy", "rkisp10-sensor-out", "rkisp10-in"]);
            assert!(references.iter().all(|label| labels.contains(label)), "{labels:?}");
        }
    }
}
