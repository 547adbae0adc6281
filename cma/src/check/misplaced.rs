//! Nodes and properties that are meant for reserved memory and that Linux does not read: at another place, or misspelt.

use super::{
    early::Checked,
    finding::{Finding, Level, finding},
    names,
    tree::{ROOT, Tree},
};

const SCAN: &str = "drivers/of/of_reserved_mem.c, fdt_scan_reserved_mem";
const DEVICE_INIT: &str = "drivers/of/of_reserved_mem.c, of_reserved_mem_device_init_by_idx";

/// The `compatible` of pools.
const POOLS: [&str; 2] = ["shared-dma-pool", "restricted-dma-pool"];

/// Looks at the whole tree. `parent` is the node that Linux reads.
pub(super) fn check(tree: &Tree<'_>, parent: Option<usize>, findings: &mut Vec<Finding>) {
    for node in tree.nodes().filter(|node| !tree.is_meta(*node)) {
        let owner = tree.parent(node);
        let is_read = node != ROOT && Some(owner) == parent;
        let name = tree.base_name(node);
        let has_children = tree.children(node).next().is_some();
        let mut say = |level, text: String| findings.push(finding(level, SCAN, text));
        if name == "reserved-memory" && Some(node) != parent && has_children {
            let path = tree.path(node);
            say(
                Level::Error,
                if owner == ROOT {
                    format!("{path} is a second /reserved-memory: Linux reads the first one only")
                } else {
                    format!(
                        "{path} is not at the root: Linux does not read it, and reserves nothing for its children"
                    )
                },
            );
        } else if node != ROOT
            && owner == ROOT
            && has_children
            && names::meant(name, &["reserved-memory"]).is_some()
        {
            let path = tree.path(node);
            say(Level::Error, format!("Linux does not read {path}: the name must be reserved-memory"));
        }
        let is_pool = POOLS.iter().any(|pool| tree.is_compatible(node, pool));
        // Those below a misplaced /reserved-memory are told with it.
        if is_pool && !is_read && tree.base_name(owner) != "reserved-memory" {
            let path = tree.path(node);
            say(
                Level::Error,
                format!("{path} is not a child of /reserved-memory: Linux makes no pool of it"),
            );
        }
        if !is_read {
            look_at_device(tree, node, findings);
        }
    }
}

/// Misspelt names of a device's `memory-region`.
fn look_at_device(tree: &Tree<'_>, node: usize, findings: &mut Vec<Finding>) {
    for (name, _) in tree.properties(node) {
        let is_near = name.len().abs_diff("memory-region".len()) <= 2 && name.starts_with(b"m");
        let Some(name) = std::str::from_utf8(name).ok().filter(|_| is_near) else { continue };
        if let Some(meant) = names::meant(name, &["memory-region"]) {
            let text = format!(
                "{} has the property {}, which Linux does not read; {meant} is meant, perhaps",
                tree.path(node),
                name.escape_debug()
            );
            findings.push(finding(Level::Warning, DEVICE_INIT, text));
        }
    }
}

/// Properties of a region that Linux does not read.
pub(super) fn look_at_region(tree: &Tree<'_>, region: &mut Checked) {
    let mut unknown = Vec::new();
    for (name, _) in tree.properties(region.node) {
        let shown = name.escape_ascii().to_string();
        if names::JUDGED.contains(&shown.as_str()) || names::OTHERS.contains(&shown.as_str()) {
            continue;
        }
        match names::meant(&shown, &names::JUDGED) {
            Some(meant) => {
                let text = format!("Linux does not read its property {shown}; {meant} is meant, perhaps");
                region.say(Level::Warning, SCAN, text);
            }
            None => unknown.push(shown),
        }
    }
    // The properties of other regions are those of a driver.
    if !unknown.is_empty() && POOLS.iter().any(|pool| tree.is_compatible(region.node, pool)) {
        let text = format!("not judged: {}", unknown.join(", "));
        region.say(Level::Note, SCAN, text);
    }
    for compatible in tree.strings(region.node, "compatible") {
        let shown = compatible.escape_ascii().to_string();
        if let Some(meant) = names::meant(&shown.to_ascii_lowercase(), &POOLS) {
            let text =
                format!("Linux does not know the compatible \"{shown}\"; \"{meant}\" is meant, perhaps");
            region.say(Level::Warning, SCAN, text);
        }
    }
    if let Some(child) = tree.children(region.node).next() {
        let text = format!("Linux does not read its child {}", tree.path(child));
        region.say(Level::Note, SCAN, text);
    }
}
