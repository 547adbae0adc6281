//! Writes a device tree as source (DTS), as `dtc -I dtb -O dts` does. dtc compiles it to the same tree.
//!
//! A flattened tree does not say what a value is. A value that can be strings is written as strings, a whole number of cells
//! as cells, and anything else as bytes.

use super::tree::{ROOT, Tree};

impl Tree<'_> {
    /// The tree as source.
    pub fn to_source(&self) -> String {
        let mut source = "/dts-v1/;\n".to_owned();
        for reserved in self.reservations() {
            let size = reserved.end - reserved.start;
            source += &format!("/memreserve/\t{:#018x} {size:#018x};\n", reserved.start);
        }
        self.write_node(ROOT, 0, &mut source);
        source
    }

    fn write_node(&self, node: usize, depth: usize, source: &mut String) {
        let indent = "\t".repeat(depth);
        let name = if node == ROOT { "/" } else { self.name(node) };
        *source += &format!("\n{indent}{name} {{\n");
        for (name, value) in self.properties(node) {
            let name = String::from_utf8_lossy(name);
            let value = if value.is_empty() { String::new() } else { format!(" = {}", value_source(value)) };
            *source += &format!("{indent}\t{name}{value};\n");
        }
        for child in self.children(node) {
            self.write_node(child, depth + 1, source);
        }
        *source += &format!("{indent}}};\n");
    }
}

/// A value, which is not empty.
fn value_source(value: &[u8]) -> String {
    let list = |words: Vec<String>, separator: &str| words.join(separator);
    if are_strings(value) {
        let strings = value[..value.len() - 1].split(|byte| *byte == 0);
        return list(strings.map(|text| format!("\"{}\"", escaped(text))).collect(), ", ");
    }
    if value.len().is_multiple_of(4) {
        let number = |cell: &[u8]| cell.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let cells = value.chunks(4).map(|cell| format!("{:#04x}", number(cell)));
        return format!("<{}>", list(cells.collect(), " "));
    }
    format!("[{}]", list(value.iter().map(|byte| format!("{byte:02x}")).collect(), " "))
}

/// Whether a value is text, each string with a zero at its end. dtc also accepts empty strings (treesource.c, guess_value_type), so
/// it takes the cell 0x3f6a0000, an address, for "?j" and "".
fn are_strings(value: &[u8]) -> bool {
    let is_text = |byte: &u8| matches!(byte, 0x07..=0x0d | b' '..=b'~');
    let is_string = |string: &[u8]| !string.is_empty() && string.iter().all(is_text);
    value.strip_suffix(&[0]).is_some_and(|strings| strings.split(|byte| *byte == 0).all(is_string))
}

/// A text as it stands between quotation marks.
fn escaped(text: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        0x07 => "\\a".to_owned(),
        0x08 => "\\b".to_owned(),
        0x09 => "\\t".to_owned(),
        0x0a => "\\n".to_owned(),
        0x0b => "\\v".to_owned(),
        0x0c => "\\f".to_owned(),
        0x0d => "\\r".to_owned(),
        b'"' | b'\\' => format!("\\{}", char::from(*byte)),
        _ => char::from(*byte).to_string(),
    };
    text.iter().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use vm_fdt::{FdtReserveEntry, FdtWriter};

    use super::*;

    #[test]
    fn values_are_written_as_what_they_look_like() {
        for (value, expected) in [
            (&b"okay\0"[..], r#""okay""#),
            (b"a,b\0c\0", r#""a,b", "c""#),
            (b"say \"\\\"\n\x07\0", r#""say \"\\\"\n\a""#),
            (b"\0\0\0\x02\x12\x34\x56\x78", "<0x02 0x12345678>"),
            // A zero alone, text with further zeroes, text without an end, and no text.
            (b"\0", "[00]"),
            (b"a\0\0\0", "<0x61000000>"),
            (b"?j\0\0", "<0x3f6a0000>"),
            (b"abcd", "<0x61626364>"),
            (b"\xc3\xa9\0", "[c3 a9 00]"),
        ] {
            assert_eq!(value_source(value), expected);
        }
    }

    #[test]
    fn a_tree_is_written_as_dtc_writes_it() {
        let reserved = FdtReserveEntry::new(0x8000_0000, 0x1000).unwrap();
        let mut fdt = FdtWriter::new_with_mem_reserv(&[reserved]).unwrap();
        let root = fdt.begin_node("").unwrap();
        fdt.property_u32("#address-cells", 2).unwrap();
        let memory = fdt.begin_node("memory@0").unwrap();
        fdt.property_string("device_type", "memory").unwrap();
        fdt.property_null("hotpluggable").unwrap();
        fdt.end_node(memory).unwrap();
        let empty = fdt.begin_node("chosen").unwrap();
        fdt.end_node(empty).unwrap();
        fdt.end_node(root).unwrap();
        let blob = fdt.finish().unwrap();
        let expected = "/dts-v1/;
/memreserve/\t0x0000000080000000 0x0000000000001000;

/ {
\t#address-cells = <0x02>;

\tmemory@0 {
\t\tdevice_type = \"memory\";
\t\thotpluggable;
\t};

\tchosen {
\t};
};
";
        assert_eq!(Tree::read(&blob).unwrap().to_source(), expected);
    }
}
