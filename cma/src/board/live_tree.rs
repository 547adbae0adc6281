//! The live device tree as a board has it in /proc/device-tree: a folder for each node, a file for each property.

use std::collections::BTreeMap;

use vm_fdt::{Error, FdtWriter};

use super::files::Files;

/// The folder's name, in an archive and in /proc.
const FOLDER: &str = "device-tree/";
/// The deepest node that Linux reads (drivers/of/fdt.c, FDT_MAX_DEPTH).
const MAX_DEPTH: usize = 63;

#[derive(Default)]
struct Node<'a> {
    properties: BTreeMap<&'a str, &'a [u8]>,
    children: BTreeMap<&'a str, Node<'a>>,
}

/// Whether a path is that of a property.
pub(super) fn has(path: &str) -> bool {
    inside(path).is_some()
}

fn inside(path: &str) -> Option<&str> {
    let at = path.find(FOLDER).filter(|at| *at == 0 || path[..*at].ends_with('/'))?;
    Some(&path[at + FOLDER.len()..])
}

/// The board's name.
pub(super) fn model(files: &Files) -> Option<String> {
    let (_, name) = files.iter().find(|(path, _)| inside(path) == Some("model"))?;
    Some(String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).take(200).collect())
}

/// The tree in its flattened form. The nodes are in alphabetical order. None without such a folder, or if it has a name that no
/// tree has.
pub(super) fn flatten(files: &Files) -> Option<Vec<u8>> {
    let mut root = Node::default();
    let mut found = false;
    for (path, value) in files {
        let Some(path) = inside(path) else { continue };
        let mut names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        // The kernel adds the property `name`, which is the node's.
        let Some(property) = names.pop().filter(|name| *name != "name") else { continue };
        if names.len() > MAX_DEPTH || names.contains(&"..") {
            continue;
        }
        let node = names.into_iter().fold(&mut root, |node, name| node.children.entry(name).or_default());
        node.properties.insert(property, value);
        found = true;
    }
    let write = || -> Result<Vec<u8>, Error> {
        let mut fdt = FdtWriter::new()?;
        write(&mut fdt, "", &root)?;
        fdt.finish()
    };
    found.then(|| write().ok()).flatten()
}

fn write(fdt: &mut FdtWriter, name: &str, node: &Node<'_>) -> Result<(), Error> {
    let begun = fdt.begin_node(name)?;
    for (name, value) in &node.properties {
        fdt.property(name, value)?;
    }
    for (name, child) in &node.children {
        write(fdt, name, child)?;
    }
    fdt.end_node(begun)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Tree;

    #[test]
    fn a_tree_of_files() {
        let files: Files = [
            ("device-tree/model", &b"A board\0"[..]),
            ("device-tree/name", b"\0"),
            ("device-tree/#address-cells", &[0, 0, 0, 1]),
            ("device-tree/memory@40000000/device_type", b"memory\0"),
            ("device-tree/reserved-memory/ranges", b""),
            ("other/reg", b"x"),
        ]
        .map(|(path, value)| (path.to_owned(), value.to_vec()))
        .into();
        let blob = flatten(&files).unwrap();
        let source = Tree::read(&blob).unwrap().to_source();
        for part in ["model = \"A board\";", "memory@40000000 {", "device_type = \"memory\";", "ranges;"] {
            assert!(source.contains(part), "{part}: {source}");
        }
        assert!(!source.contains("other") && !source.contains("name"), "{source}");
        assert_eq!(model(&files).as_deref(), Some("A board"));
        assert_eq!(flatten(&Files::new()), None);
        let deep = format!("device-tree/{}reg", "a/".repeat(100));
        assert_eq!(flatten(&Files::from([(deep, vec![0])])), None);
    }
}
