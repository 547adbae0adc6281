//! The parameters on the kernel's command line that decide about reserved memory: `cma=`, `mem=` and `vmalloc=`.

use super::kernel::Arch;

/// What `cma=` says (kernel/dma/contiguous.c, early_cma). A second `cma=` without a place keeps the place of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cma {
    pub(super) size: u64,
    pub(super) base: u64,
    /// The end of the addresses; 0 for any.
    pub(super) limit: u64,
}

/// The parameters.
#[derive(Debug, Default)]
pub(super) struct Cmdline {
    pub(super) cma: Option<Cma>,
    /// Each `mem=`: the size, and the address after `@`.
    pub(super) mem: Vec<(u64, Option<u64>)>,
    pub(super) vmalloc: Option<u64>,
    /// Parameters that reserve memory, too, and are not judged.
    pub(super) others: Vec<&'static str>,
}

/// Parameters that reserve memory or change the RAM, and are not judged.
const OTHERS: [&str; 6] = ["cma_pernuma", "numa_cma", "hugetlb_cma", "crashkernel", "memmap", "memblock"];

impl Cmdline {
    /// Reads a command line. Linux ignores what is longer than its buffer (COMMAND_LINE_SIZE).
    pub(super) fn read(text: &[u8], arch: Arch) -> Self {
        let longest = if matches!(arch, Arch::Arm | Arch::Riscv) { 1024 } else { 2048 };
        let text = &text[..text.len().min(longest - 1)];
        let mut read = Self::default();
        for word in words(text) {
            if word == b"--" {
                break;
            }
            let (name, value) = match word.iter().position(|byte| *byte == b'=') {
                Some(at) => (&word[..at], Some(&word[at + 1..])),
                None => (&word[..], None),
            };
            match (name, value) {
                (b"cma", Some(value)) => read.cma = Some(cma(value, read.cma)),
                (b"mem", Some(value)) => {
                    let (size, rest) = memparse(value);
                    read.mem.push((size, rest.strip_prefix(b"@").map(|base| memparse(base).0)));
                }
                (b"vmalloc", Some(value)) => read.vmalloc = Some(memparse(value).0),
                _ => {
                    let other = OTHERS.into_iter().find(|other| other.as_bytes() == name);
                    read.others.extend(other.filter(|other| !read.others.contains(other)));
                }
            }
        }
        read
    }
}

fn cma(value: &[u8], before: Option<Cma>) -> Cma {
    let (size, rest) = memparse(value);
    let Some(rest) = rest.strip_prefix(b"@") else {
        return Cma { size, ..before.unwrap_or(Cma { size, base: 0, limit: 0 }) };
    };
    let (base, rest) = memparse(rest);
    let limit = match rest.strip_prefix(b"-") {
        Some(rest) => memparse(rest).0,
        None => base.wrapping_add(size),
    };
    Cma { size, base, limit }
}

/// The words of a command line. Spaces in quotation marks do not separate words (lib/cmdline.c, next_arg).
fn words(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut quoted = false;
    let words = text.split(move |byte| {
        quoted ^= *byte == b'"';
        !quoted && byte.is_ascii_whitespace()
    });
    words
        .map(|word| word.iter().copied().filter(|byte| *byte != b'"').collect::<Vec<_>>())
        .filter(|word| !word.is_empty())
}

/// A number with a suffix as the kernel reads it, and the text after it (lib/cmdline.c, memparse): what does not fit in 64 bits wraps.
fn memparse(text: &[u8]) -> (u64, &[u8]) {
    let hex = text.len() > 2 && text[..2].eq_ignore_ascii_case(b"0x") && text[2].is_ascii_hexdigit();
    let (radix, digits) = match text {
        [_, _, digits @ ..] if hex => (16, digits),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    let count = digits.iter().take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let number = digits[..count].iter().fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(radix).unwrap_or(0);
        number.wrapping_mul(u64::from(radix)).wrapping_add(u64::from(digit))
    });
    let rest = &digits[count..];
    let shift =
        rest.first().and_then(|suffix| b"KMGTPE".iter().position(|other| suffix.eq_ignore_ascii_case(other)));
    match shift {
        Some(index) => (number << (10 * (index + 1)), &rest[1..]),
        None => (number, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_kernel_reads_them() {
        for (text, number, rest) in [
            ("64M", 64 << 20, ""),
            ("0x40000000", 1 << 30, ""),
            ("010k@", 8 << 10, "@"),
            ("1g-", 1 << 30, "-"),
            ("", 0, ""),
            ("x", 0, "x"),
            ("0x", 0, "x"),
            ("18446744073709551617", 1, ""),
            ("16E", 0, ""),
            ("089", 0, "89"),
        ] {
            assert_eq!(memparse(text.as_bytes()), (number, rest.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_parameters() {
        let read = |text: &str| Cmdline::read(text.as_bytes(), Arch::Arm64);
        let cma = |text: &str| read(text).cma.map(|Cma { size, base, limit }| (size, base, limit));
        assert_eq!(cma("quiet cma=64M"), Some((64 << 20, 0, 0)));
        assert_eq!(cma("cma=1M@16M"), Some((1 << 20, 16 << 20, 17 << 20)));
        assert_eq!(cma("cma=1M@16M-1G"), Some((1 << 20, 16 << 20, 1 << 30)));
        // The last one counts, but its place is that of the one before.
        assert_eq!(cma("cma=1M@16M cma=2M"), Some((2 << 20, 16 << 20, 17 << 20)));
        assert_eq!(cma("cma="), Some((0, 0, 0)));
        assert_eq!(cma("nocma=64M cma xcma=1M -- cma=3M"), None);
        assert_eq!(cma("a=\"x cma=1M\" \"cma=2M\""), Some((2 << 20, 0, 0)));
        assert_eq!(cma(&format!("{} cma=1M", "x".repeat(2048))), None);
        let read = read("mem=512M@1G mem=1G vmalloc=400M crashkernel=1M crashkernel=2M");
        assert_eq!(read.mem, [(512 << 20, Some(1 << 30)), (1 << 30, None)]);
        assert_eq!((read.vmalloc, &read.others[..]), (Some(400 << 20), &["crashkernel"][..]));
    }
}
