//! Nodes that devices share: the fixed clocks and the fixed regulators that their nodes refer to, where the architecture's kernel
//! looks for them.

use devices::platform::{Cell, Node, Value};

use crate::arch;

/// The name, and the label, of the node of a clock, from its frequency in hertz.
pub fn clock_label(frequency: u32) -> String {
    format!("clock-{frequency}")
}

/// The name, and the label, of the node of a regulator, from its voltage in microvolts.
pub fn supply_label(microvolts: u32) -> String {
    format!("regulator-{microvolts}")
}

/// The nodes that `nodes` refer to.
pub fn of<'a>(nodes: impl Iterator<Item = &'a Node> + Clone) -> Vec<Node> {
    let clocks = distinct(nodes.clone().flat_map(Node::clocks)).into_iter().map(clock).collect();
    let regulators = distinct(nodes.flat_map(Node::supplies)).into_iter().map(regulator).collect();
    [on_bus("clocks", clocks), on_bus("regulators", regulators)].concat()
}

/// Each number once, in the order in which they come first.
fn distinct(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut distinct = Vec::new();
    for number in numbers {
        if !distinct.contains(&number) {
            distinct.push(number);
        }
    }
    distinct
}

/// Documentation/devicetree/bindings/clock/fixed-clock.yaml
fn clock(frequency: u32) -> Node {
    let label = clock_label(frequency);
    Node::new(label.as_str())
        .label(label)
        .compatible(&["fixed-clock"])
        .number("#clock-cells", 0)
        .number("clock-frequency", frequency)
}

/// Documentation/devicetree/bindings/regulator/fixed-regulator.yaml
fn regulator(microvolts: u32) -> Node {
    let label = supply_label(microvolts);
    Node::new(label.as_str())
        .label(label.as_str())
        .compatible(&["regulator-fixed"])
        .property("regulator-name", Value::Strings(vec![label]))
        .cells("regulator-min-microvolt", [Cell::from(microvolts)])
        .cells("regulator-max-microvolt", [Cell::from(microvolts)])
}

/// The nodes, below one called `name` if the architecture needs it.
fn on_bus(name: &str, nodes: Vec<Node>) -> Vec<Node> {
    match arch::SHARED_COMPATIBLE {
        Some(compatible) if !nodes.is_empty() => {
            vec![nodes.into_iter().fold(Node::new(name).compatible(&[compatible]), Node::child)]
        }
        _ => nodes,
    }
}
