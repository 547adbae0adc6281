//! Reads a flattened device tree (Devicetree Specification 0.4, chapter 5) that can be malformed in any way.
//!
//! The existing crates do not fit. dtoolkit refuses trees that Linux accepts: it allows names of up to 31 characters, which more than
//! half of the trees in Debian exceed. fdt-raw reads a truncated tree as a shorter one. fdt panics on most blobs with a few changed
//! bytes. fdt-rs uses unsafe code, and is not maintained.

use std::{collections::BTreeMap, ops::Range};

/// The root's index.
pub(super) const ROOT: usize = 0;

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Maximum depth of nodes: Linux ignores deeper nodes (drivers/of/fdt.c, unflatten_dt_nodes, FDT_MAX_DEPTH).
const MAX_DEPTH: usize = 63;
/// Maximum length of a node's name: each node is a file in sysfs (include/uapi/linux/limits.h, NAME_MAX).
const MAX_NAME: usize = 255;

/// Why a blob is not a device tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// It is something else.
    #[error(
        "it begins with {0:02x?}, but a flattened device tree begins with d0 0d fe ed; give a .dtb or a .dts file"
    )]
    NoTree(Vec<u8>),
    /// It is truncated.
    #[error(
        "it is truncated: its header says {expected} bytes (totalsize, at offset 0x4), but it has {found}; copy it again"
    )]
    CutShort {
        /// Size in the header.
        expected: usize,
        /// Size of the blob.
        found: usize,
    },
    /// Its version is not supported.
    #[error(
        "it has version {version}, compatible down to {compatible} (at offset 0x14); versions 16 and 17 are supported"
    )]
    Version {
        /// Its version.
        version: u32,
        /// The oldest version that it can be read as.
        compatible: u32,
    },
    /// It is malformed.
    #[error("it is malformed at offset {offset:#x}, in the node {node}: {what}")]
    Broken {
        /// The offset from the start of the blob, in bytes.
        offset: usize,
        /// Path of the enclosing node.
        node: String,
        /// The error.
        what: &'static str,
    },
}

/// A node.
#[derive(Debug)]
struct Node<'a> {
    name: String,
    parent: usize,
    /// The index after that of its last descendant.
    end: usize,
    /// Names and values, in the order of the blob.
    properties: Vec<(&'a [u8], &'a [u8])>,
}

/// A device tree. Nodes are indices in the order of the blob: parents come before their children.
#[derive(Debug)]
pub struct Tree<'a> {
    /// The structure block, from the start of the blob to its end.
    blob: &'a [u8],
    nodes: Vec<Node<'a>>,
    /// The first node with each phandle.
    phandles: BTreeMap<u32, usize>,
    reservations: Vec<Range<u64>>,
}

impl<'a> Tree<'a> {
    /// Reads the tree at the start of `blob`. Bytes after its end are ignored.
    ///
    /// # Errors
    /// If it is malformed: the place and the reason.
    pub fn read(blob: &'a [u8]) -> Result<Self, TreeError> {
        if word(blob, 0) != Some(MAGIC) {
            return Err(TreeError::NoTree(blob[..blob.len().min(4)].to_vec()));
        }
        let header = |at| word(blob, at).ok_or(TreeError::CutShort { expected: 40, found: blob.len() });
        let expected = header(4)? as usize;
        let blob = blob.get(..expected).ok_or(TreeError::CutShort { expected, found: blob.len() })?;
        let (version, compatible) = (header(20)?, header(24)?);
        if version < 16 || compatible > 17 {
            return Err(TreeError::Version { version, compatible });
        }
        let broken = |offset, what| TreeError::Broken { offset, node: "/".to_owned(), what };
        let strings_at = header(12)? as usize;
        let strings = strings_at.checked_add(header(32)? as usize).and_then(|end| blob.get(strings_at..end));
        let strings = strings.ok_or(broken(12, "the strings block lies outside the blob"))?;
        let start = header(8)? as usize;
        // Version 16 does not have the size of this block.
        let end = if version < 17 { Some(blob.len()) } else { start.checked_add(header(36)? as usize) };
        let end = end.filter(|end| *end <= blob.len() && start <= *end && start.is_multiple_of(4));
        let end =
            end.ok_or(broken(8, "the structure block lies outside the blob, or not at a multiple of 4"))?;
        let mut tree = Self {
            blob: &blob[..end],
            nodes: Vec::new(),
            phandles: BTreeMap::new(),
            reservations: Vec::new(),
        };
        tree.read_reservations(blob, header(16)? as usize)?;
        tree.read_nodes(Reader { blob: &blob[..end], at: start }, strings)?;
        for node in 0..tree.nodes.len() {
            if let Some(phandle) = tree.phandle(node) {
                tree.phandles.entry(phandle).or_insert(node);
            }
        }
        Ok(tree)
    }

    /// Whether it is an overlay: a child of the root has a child `__overlay__` (scripts/dtc/libfdt/fdt_overlay.c).
    pub fn is_overlay(&self) -> bool {
        let mut children = self.children(ROOT);
        children.any(|fragment| self.children(fragment).any(|node| self.name(node) == "__overlay__"))
    }

    fn read_reservations(&mut self, blob: &[u8], mut at: usize) -> Result<(), TreeError> {
        loop {
            let entry = at.checked_add(16).and_then(|end| blob.get(at..end));
            let entry = entry.ok_or(TreeError::Broken {
                offset: at,
                node: "/".to_owned(),
                what: "the list of /memreserve/ has no final entry of size zero",
            })?;
            let (base, size) = (number(&entry[..8]), number(&entry[8..]));
            if size == 0 {
                return Ok(());
            }
            self.reservations.push(super::ranges::at(base, size));
            at += 16;
        }
    }

    fn read_nodes(&mut self, mut reader: Reader<'a>, strings: &'a [u8]) -> Result<(), TreeError> {
        // The enclosing nodes, outermost first.
        let mut around: Vec<usize> = Vec::new();
        loop {
            let offset = reader.at;
            let broken = |tree: &Self, around: &[usize], what| TreeError::Broken {
                offset,
                node: around.last().map_or_else(|| "/".to_owned(), |node| tree.path(*node)),
                what,
            };
            let Some(token) = reader.word() else {
                return Err(broken(self, &around, "the tree ends here, before its end token 9"));
            };
            match token {
                BEGIN_NODE => {
                    let name = reader.text().filter(|name| name.len() <= MAX_NAME);
                    let name = name.ok_or_else(|| {
                        broken(self, &around, "a node's name is longer than 255 characters")
                    })?;
                    if around.len() == MAX_DEPTH {
                        return Err(broken(self, &around, "nodes are more than 63 levels deep"));
                    }
                    if around.is_empty() && !self.nodes.is_empty() {
                        return Err(broken(self, &around, "there is a second root"));
                    }
                    let parent = around.last().copied().unwrap_or(ROOT);
                    around.push(self.nodes.len());
                    let name = name.escape_ascii().to_string();
                    self.nodes.push(Node { name, parent, end: 0, properties: Vec::new() });
                }
                END_NODE => {
                    let Some(node) = around.pop() else {
                        return Err(broken(self, &around, "a node ends that did not begin"));
                    };
                    self.nodes[node].end = self.nodes.len();
                }
                PROPERTY => {
                    let property = reader.property(strings);
                    let property = property.ok_or_else(|| {
                        broken(self, &around, "the name or value of a property lies outside the blob")
                    })?;
                    // Linux finds no property after a child: libfdt stops there.
                    match around.last() {
                        Some(node) if *node + 1 == self.nodes.len() => {
                            self.nodes[*node].properties.push(property);
                        }
                        Some(_) => {
                            return Err(broken(self, &around, "there is a property after a child node"));
                        }
                        None => return Err(broken(self, &around, "there is a property outside any node")),
                    }
                }
                NOP => {}
                END if !around.is_empty() => {
                    return Err(broken(self, &around, "the end token 9 comes before the end of this node"));
                }
                END if self.nodes.is_empty() => return Err(broken(self, &around, "there is no root")),
                END => return Ok(()),
                _ => {
                    return Err(broken(
                        self,
                        &around,
                        "the token is invalid; the tokens are 1, 2, 3, 4 and 9",
                    ));
                }
            }
        }
    }

    /// The memory of the /memreserve/ entries.
    pub(super) fn reservations(&self) -> &[Range<u64>] {
        &self.reservations
    }

    /// All nodes.
    pub(super) fn nodes(&self) -> Range<usize> {
        0..self.nodes.len()
    }

    /// The name with its unit address. Characters that are not printable are escaped.
    pub(super) fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    pub(super) fn path(&self, node: usize) -> String {
        let mut names: Vec<&str> = self.ancestors(node).map(|node| self.name(node)).collect();
        names.pop();
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
            + if names.is_empty() { "/" } else { "" }
    }

    /// The node and its ancestors, up to the root.
    pub(super) fn ancestors(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(node), |node| (*node != ROOT).then(|| self.nodes[*node].parent))
    }

    pub(super) fn children(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[parent].end;
        let next = move |node: usize| Some(node).filter(|node| *node < end);
        std::iter::successors(next(parent + 1), move |node| next(self.nodes[*node].end))
    }

    /// The parent; the root itself for the root.
    pub(super) fn parent(&self, node: usize) -> usize {
        self.nodes[node].parent
    }

    /// The name without its unit address.
    pub(super) fn base_name(&self, node: usize) -> &str {
        self.name(node).split('@').next().unwrap_or_default()
    }

    /// The root's first child of that name, with or without a unit address, as fdt_path_offset (libfdt) finds it.
    pub(super) fn top_level(&self, name: &str) -> Option<usize> {
        self.children(ROOT).find(|node| self.base_name(*node) == name)
    }

    /// The node /chosen.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.top_level("chosen")
    }

    /// Whether a node belongs to what dtc adds for overlays (`__symbols__`, `__local_fixups__`): it describes no hardware.
    pub(super) fn is_meta(&self, node: usize) -> bool {
        let top = self.ancestors(node).filter(|node| *node != ROOT).last();
        top.is_some_and(|top| self.name(top).starts_with("__"))
    }

    /// Names and values, in the order of the blob.
    pub(super) fn properties(&self, node: usize) -> &[(&'a [u8], &'a [u8])] {
        &self.nodes[node].properties
    }

    /// A property's value.
    pub(super) fn property(&self, node: usize, name: &str) -> Option<&'a [u8]> {
        let mut properties = self.nodes[node].properties.iter();
        properties.find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| *value)
    }

    pub(super) fn has(&self, node: usize, name: &str) -> bool {
        self.property(node, name).is_some()
    }

    /// The first cell of a property.
    pub(super) fn cell(&self, node: usize, name: &str) -> Option<u32> {
        word(self.property(node, name)?, 0)
    }

    /// `length` bytes that the blob has from the start of a property's value. They can reach into what comes after it.
    pub(super) fn bytes_from(&self, value: &[u8], length: usize) -> Option<&'a [u8]> {
        let at = value.as_ptr().addr().checked_sub(self.blob.as_ptr().addr())?;
        self.blob.get(at..at.checked_add(length)?)
    }

    /// The first string of a property, without the zero at its end.
    pub(super) fn text(&self, node: usize, name: &str) -> Option<&'a [u8]> {
        self.property(node, name)?.split(|byte| *byte == 0).next()
    }

    /// The strings of a property.
    pub(super) fn strings(&self, node: usize, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let value = self.property(node, name).unwrap_or_default();
        value.split(|byte| *byte == 0).filter(|text| !text.is_empty())
    }

    /// Whether `compatible` has that name, in any case (drivers/of/fdt.c, of_fdt_is_compatible).
    pub(super) fn is_compatible(&self, node: usize, name: &str) -> bool {
        self.strings(node, "compatible").any(|text| text.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether `status` permits its use (drivers/of/fdt.c, of_fdt_device_is_available).
    pub(super) fn is_available(&self, node: usize) -> bool {
        self.text(node, "status").is_none_or(|status| matches!(status, b"ok" | b"okay"))
    }

    /// Its phandle, which is not zero (drivers/of/fdt.c, populate_properties).
    pub(super) fn phandle(&self, node: usize) -> Option<u32> {
        let handles = ["phandle", "linux,phandle"].into_iter().filter_map(|name| self.cell(node, name));
        handles.into_iter().find(|phandle| *phandle != 0)
    }

    /// The node with that phandle, the first one of several (drivers/of/base.c, of_find_node_by_phandle).
    pub(super) fn find(&self, phandle: u32) -> Option<usize> {
        self.phandles.get(&phandle).copied()
    }
}

/// The last 64 bits of a number of any number of cells (include/linux/of.h, of_read_number).
pub(super) fn number(cells: &[u8]) -> u64 {
    cells.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The complete tuples of a property of addresses and sizes.
pub(super) fn tuples(value: &[u8], (address, size): (usize, usize)) -> impl Iterator<Item = (u64, u64)> {
    let tuples = value.chunks_exact(4 * (address + size));
    tuples.map(move |tuple| (number(&tuple[..4 * address]), number(&tuple[4 * address..])))
}

/// A big-endian word at a place in `bytes`.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(word.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// A position in the structure block.
struct Reader<'a> {
    blob: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn word(&mut self) -> Option<u32> {
        let word = word(self.blob, self.at)?;
        self.at += 4;
        Some(word)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.blob.get(self.at..self.at.checked_add(length)?)?;
        self.at = (self.at + length).next_multiple_of(4);
        Some(bytes)
    }

    /// A zero-terminated string.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.blob.get(self.at..)?.iter().position(|byte| *byte == 0)?;
        self.bytes(length + 1)?.get(..length)
    }

    fn property(&mut self, strings: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (length, name_at) = (self.word()? as usize, self.word()? as usize);
        let name = strings.get(name_at..)?;
        let name = name.get(..name.iter().position(|byte| *byte == 0)?)?;
        Some((name, self.bytes(length)?))
    }
}
