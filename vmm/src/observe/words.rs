//! Words of the output that depend on a number.

/// `1 page`, `2 pages`.
///
/// ```
/// assert_eq!(vmm::observe::words::counted(1, "page"), "1 page");
/// assert_eq!(vmm::observe::words::counted(0, "page"), "0 pages");
/// ```
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
