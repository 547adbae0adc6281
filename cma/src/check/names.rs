//! Names of properties and nodes that Linux ignores, and that look like names that it reads.

/// The properties of a region that decide what becomes of it.
pub(super) const JUDGED: [&str; 9] = [
    "compatible",
    "reg",
    "size",
    "alignment",
    "alloc-ranges",
    "reusable",
    "no-map",
    "linux,cma-default",
    "linux,dma-default",
];

/// Other properties of a region that are known: they do not decide what becomes of it, or are judged elsewhere.
pub(super) const OTHERS: [&str; 12] = [
    "status",
    "phandle",
    "linux,phandle",
    "name",
    "label",
    "ranges",
    "#address-cells",
    "#size-cells",
    "no-map-fixup",
    "iommu-addresses",
    "memory-region",
    "memory-region-names",
];

/// The name that `written` is likely meant for, among `names`. None if it is one of them, or resembles none.
pub(super) fn meant<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    if names.contains(&written) {
        return None;
    }
    let plain = |name: &str| {
        let name = name.strip_prefix("linux,").unwrap_or(name);
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let (text, close) = (plain(written), |length: usize| usize::from(length > 4) + usize::from(length > 8));
    names.iter().copied().find(|name| {
        let other = plain(name);
        // alignment is often shortened.
        text == other
            || (text == "align" && other == "alignment")
            || distance(&text, &other, close(other.len()))
    })
}

/// Whether at most `most` letters differ: are added, left out, exchanged for others, or swapped with their neighbour.
fn distance(one: &str, other: &str, most: usize) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len().abs_diff(other.len()) > most || most == 0 {
        return false;
    }
    // The rows of the table of distances of prefixes: two before, before, and this one.
    let (mut older, mut row) = (Vec::new(), (0..=other.len()).collect::<Vec<usize>>());
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(older[j - 1] + 1);
            }
            next.push(least);
        }
        older = std::mem::replace(&mut row, next);
    }
    row[other.len()] <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        for (written, name) in [
            ("resuable", Some("reusable")),
            ("reuseable", Some("reusable")),
            ("nomap", Some("no-map")),
            ("no_map", Some("no-map")),
            ("No-Map", Some("no-map")),
            ("align", Some("alignment")),
            ("aligment", Some("alignment")),
            ("alloc-range", Some("alloc-ranges")),
            ("alloc_ranges", Some("alloc-ranges")),
            ("cma-default", Some("linux,cma-default")),
            ("linux,cma_default", Some("linux,cma-default")),
            ("linux,cmadefault", Some("linux,cma-default")),
            ("linux,dma-default", None),
            ("reusable", None),
            ("reg-names", None),
            ("record-size", None),
            ("console-size", None),
            ("sizes", None),
        ] {
            assert_eq!(meant(written, &JUDGED), name, "{written}");
        }
        assert_eq!(meant("memory-regions", &["memory-region"]), Some("memory-region"));
        assert_eq!(meant("memory_region", &["memory-region"]), Some("memory-region"));
        assert_eq!(meant("memory-region-names", &["memory-region"]), None);
    }
}
