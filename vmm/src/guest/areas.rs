//! The CMA areas of a running guest: the guest's agent reads them from its kernel's debugfs on request.
//!
//! The machine sends `cma N` through the agent's port. The agent answers with these lines: `cma N`; `page_kib K`, the size of
//! the kernel's pages; for each folder NAME in /sys/kernel/debug/cma `window NAME` and a line for each of its files,
//! `base_pfn TEXT`, `count TEXT`, `order_per_bit TEXT` and `bitmap TEXT`, or `ranges` for an area with several ranges; and at the
//! end `end N`. A guest without that folder answers `no debugfs` instead.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    str::Lines,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cma::{
    PAGE_SIZE,
    area::{Area, Debugfs, ImportError, Rules},
};
use devices::virtio::console::Sink;

/// Why a guest's answer has no areas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AreasError {
    /// The kernel was built without CONFIG_CMA_DEBUGFS.
    #[error(
        "the guest has no /sys/kernel/debug/cma; its kernel needs CONFIG_CMA_DEBUGFS, and debugfs has to be mounted there"
    )]
    NoDebugfs,
    /// The area has several ranges (mm/cma_debug.c since Linux 6.15).
    #[error(
        "the guest's window {0} has several ranges, which minivmm does not draw; read its debugfs folder in the guest"
    )]
    Ranges(String),
    /// The answer is longer than the bitmaps of all the guest's memory.
    #[error("the guest's agent sent more than {0} bytes, the most that the bitmaps of its memory take")]
    TooLong(usize),
    /// The answer does not have the agent's form.
    #[error("the guest's agent answered with \"{found}\" where a line \"{expected}\" belongs")]
    Form {
        /// The beginning of the line that belongs there.
        expected: &'static str,
        /// The line that was found, cut short.
        found: String,
    },
    /// A window is larger than the guest, or lies beyond all addresses.
    #[error("the guest's agent reports the window {0} outside of the guest's memory")]
    Outside(String),
    /// A file's text is not one that debugfs prints.
    #[error("the guest's agent sent a bad debugfs file of the window {name}: {source}")]
    Import {
        /// The window's name.
        name: String,
        /// The file, and the mistake in it.
        source: ImportError,
    },
}

/// The agent's port: keeps the answers to questions. Clones share it.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The bytes since the last answer.
    text: Vec<u8>,
    /// Where the last line begins.
    line: usize,
    /// Whether bytes were dropped because the answer was too long.
    lost: bool,
    /// The length of the longest answer, in bytes.
    max: usize,
    /// The open questions, with their answers.
    asked: BTreeMap<u64, Option<Result<Vec<u8>, AreasError>>>,
    next: u64,
}

impl Agent {
    /// The agent of a guest with `memory` bytes.
    pub fn new(memory: u64) -> Self {
        // A word of 32 pages is at most ten digits and a space; names and numbers of all areas take a little.
        let max = memory / PAGE_SIZE / 32 * 11 + (64 << 10);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let asked = BTreeMap::new();
        Self(Arc::new(Mutex::new(State { text: Vec::new(), line: 0, lost: false, max, asked, next: 0 })))
    }

    /// Makes a new question. Returns its number, and the line to send.
    pub fn question(&self) -> (u64, String) {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.asked.insert(number, None);
        (number, format!("cma {number}\n"))
    }

    /// Takes the answer to a question, if it is there. A guest may never answer: then [`forget`](Self::forget) the question.
    pub fn answer(&self, number: u64) -> Option<Result<Vec<u8>, AreasError>> {
        let mut state = self.state();
        let answer = state.asked.get_mut(&number)?.take()?;
        state.asked.remove(&number);
        Some(answer)
    }

    /// Drops a question, and its answer if that still comes.
    pub fn forget(&self, number: u64) {
        self.state().asked.remove(&number);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Handles a complete line.
    fn line(&mut self) {
        let line = str::from_utf8(&self.text[self.line..]).unwrap_or_default();
        let number = line.trim_end().strip_prefix("end ").and_then(|number| number.parse().ok());
        self.line = self.text.len();
        let Some(number) = number else { return };
        let text = std::mem::take(&mut self.text);
        let lost = std::mem::take(&mut self.lost);
        self.line = 0;
        if let Some(answer @ None) = self.asked.get_mut(&number) {
            *answer = Some(if lost { Err(AreasError::TooLong(self.max)) } else { Ok(text) });
        }
    }
}

impl Sink for Agent {}

impl Write for Agent {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            if state.text.len() + piece.len() > state.max {
                state.text = Vec::new();
                (state.line, state.lost) = (0, true);
            }
            state.text.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                state.line();
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parses the agent's answer to question `number`, in a guest with `memory` bytes. Returns the size of the kernel's pages in
/// bytes, and the areas in such pages.
///
/// # Errors
/// If the answer has no areas or another form. The guest is not trusted.
pub fn parse(text: &[u8], number: u64, memory: u64) -> Result<(u64, Vec<Area>), AreasError> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    if first != format!("cma {number}") {
        return Err(form("cma", first));
    }
    let page_kib = field("page_kib", &mut lines)?;
    // The sizes that Linux's architectures have.
    let page_size = match page_kib {
        "4" => 4 << 10,
        "16" => 16 << 10,
        "64" => 64 << 10,
        _ => return Err(form("page_kib 4", page_kib)),
    };
    let mut areas = Vec::new();
    loop {
        match lines.next().unwrap_or_default() {
            "no debugfs" => return Err(AreasError::NoDebugfs),
            line if line == format!("end {number}") => return Ok((page_size, areas)),
            line => {
                let name = line.strip_prefix("window ").ok_or_else(|| form("window", line))?;
                // CMA_MAX_NAME (include/linux/cma.h). Nothing in it moves a terminal's cursor.
                let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                areas.push(parse_area(name, &mut lines, memory, page_size)?);
            }
        }
    }
}

fn parse_area(name: String, lines: &mut Lines<'_>, memory: u64, page_size: u64) -> Result<Area, AreasError> {
    if lines.clone().next() == Some("ranges") {
        return Err(AreasError::Ranges(name));
    }
    let files = Debugfs {
        base_pfn: field("base_pfn", lines)?,
        count: field("count", lines)?,
        order_per_bit: field("order_per_bit", lines)?,
        bitmap: field("bitmap", lines)?,
    };
    // The count is checked before a bitmap of that size is allocated here.
    if files.count.trim().parse().is_ok_and(|count: u64| count > memory / page_size) {
        return Err(AreasError::Outside(name));
    }
    // The bitmap is read and no request is made, so that the rules of a release do not matter.
    let area = match Area::of_debugfs(&name, files, Rules::V6_1) {
        Ok(area) => area,
        Err(source) => return Err(AreasError::Import { name, source }),
    };
    // An area's addresses are in range for pages of 4 KiB; these may be larger.
    if area.ranges().any(|range| range.end > u64::MAX / page_size) {
        return Err(AreasError::Outside(name));
    }
    Ok(area)
}

fn field<'a>(name: &'static str, lines: &mut Lines<'a>) -> Result<&'a str, AreasError> {
    let line = lines.next().unwrap_or_default();
    let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
    value.ok_or_else(|| form(name, line))
}

fn form(expected: &'static str, found: &str) -> AreasError {
    AreasError::Form { expected, found: found.chars().take(40).flat_map(char::escape_debug).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMORY: u64 = 1 << 30;
    const ANSWER: &str = "cma 0\npage_kib 4\nwindow isp@40000000\nbase_pfn 262144\ncount 64\norder_per_bit 0\nbitmap 7 2147483648 \n\
                          window reserved\nbase_pfn 4096\ncount 32\norder_per_bit 0\nbitmap 0\nend 0\n";

    fn answered(text: &str) -> Result<(u64, Vec<Area>), AreasError> {
        parse(text.as_bytes(), 0, MEMORY)
    }

    #[test]
    fn the_answer_has_the_areas() {
        let (page_size, areas) = answered(ANSWER).unwrap();
        assert_eq!(page_size, 4096);
        let names: Vec<_> = areas.iter().map(Area::name).collect();
        assert_eq!(names, ["isp@40000000", "reserved"]);
        assert_eq!(areas[0].allocated().runs().collect::<Vec<_>>(), [0..3, 63..64]);
        assert_eq!(areas[1].allocated().count(), 0);
        assert_eq!(answered("cma 0\npage_kib 64\nend 0\n").unwrap().0, 65536);
    }

    #[test]
    fn what_is_no_answer_has_a_sentence() {
        for (from, to, sentence) in [
            ("cma 0", "cma 1", "the guest's agent answered with \"cma 1\" where a line \"cma\" belongs"),
            (
                "count 64\n",
                "",
                "the guest's agent answered with \"order_per_bit 0\" where a line \"count\" belongs",
            ),
            ("\nend 0", "", "the guest's agent answered with \"\" where a line \"window\" belongs"),
            ("count 64", "count 262145", "the guest's agent reports the window isp@40000000 outside"),
            (
                "bitmap 7",
                "bitmap x",
                "the guest's agent sent a bad debugfs file of the window isp@40000000: bitmap",
            ),
            ("base_pfn 262144", "ranges", "the guest's window isp@40000000 has several ranges"),
            ("window isp", "no debugfs\nwindow isp", "the guest has no /sys/kernel/debug/cma; its kernel"),
            ("window isp", "win\u{1b}dow isp", "the guest's agent answered with \"win\\u{1b}dow isp@"),
        ] {
            let error = answered(&ANSWER.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{error}");
        }
    }

    #[test]
    fn an_address_beyond_all_is_refused() {
        let far = ANSWER.replacen("base_pfn 262144", "base_pfn 4503599627366400", 1);
        assert!(answered(&far).is_ok());
        let far = far.replacen("page_kib 4", "page_kib 64", 1);
        assert_eq!(answered(&far).unwrap_err(), AreasError::Outside("isp@40000000".to_owned()));
    }

    #[test]
    fn only_what_was_asked_for_is_kept() {
        let mut agent = Agent::new(MEMORY);
        agent.write_all(ANSWER.as_bytes()).unwrap();
        let (number, line) = agent.question();
        assert_eq!((number, line.as_str()), (0, "cma 0\n"));
        assert_eq!(agent.answer(0), None);
        for byte in ANSWER.bytes() {
            assert_eq!(agent.answer(0), None);
            agent.write_all(&[byte]).unwrap();
        }
        // The first counts.
        agent.write_all(b"cma 0\nend 0\n").unwrap();
        assert_eq!(agent.answer(0), Some(Ok(ANSWER.into())));
        assert_eq!(agent.answer(0), None);
        let (number, _) = agent.question();
        agent.forget(number);
        agent.write_all(b"cma 1\nend 1\n").unwrap();
        assert_eq!(agent.answer(1), None);
    }

    #[test]
    fn an_answer_without_end_takes_no_memory() {
        let mut agent = Agent::new(32 << 20);
        let (number, _) = agent.question();
        for _ in 0..1000 {
            agent.write_all(&[b'7'; 4096]).unwrap();
        }
        let max = agent.state().max;
        assert!(max < 100_000 && agent.state().text.len() <= max);
        agent.write_all(b"\nend 0\n").unwrap();
        assert_eq!(agent.answer(number), Some(Err(AreasError::TooLong(max))));
        let (number, _) = agent.question();
        agent.write_all(b"cma 1\nend 1\n").unwrap();
        assert!(agent.answer(number).unwrap().is_ok());
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in "(cma 0\n|page_kib 4\n|end 0\n|window [a-z]\n|base_pfn [0-9]{1,20}\n|count [0-9]{1,7}\n|order_per_bit [0-9]{1,3}\n|bitmap [0-9 ]{0,9}\n|ranges\n|.{0,3}){0,12}") {
            let _ = answered(&text);
            let _ = parse(text.as_bytes(), 0, 0);
        }
    }
}
