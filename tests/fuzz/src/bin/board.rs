//! No copies of a board's debugfs files make their reader panic, and what it prints of them has printable characters. An area that it
//! takes has as many pages as the file says.

#![no_main]

use cma::{
    PAGE_SIZE, Window,
    area::{Area, Debugfs, Rules},
    map::Map,
};
use fuzz::Start;

/// base_pfn, count, order_per_bit and bitmap, with a zero byte between them.
fn seeds() -> Vec<Vec<u8>> {
    [
        ["262144\n", "128\n", "0\n", "4294967295 3 0 2147483648\n"],
        ["262144\r\n", "128", " 12884901889\n\n", "1\n2\n"],
        ["4096", "64", "1", "0\n"],
    ]
    .map(|files| files.join("\0").into_bytes())
    .into()
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut files = text.split('\0');
    let mut next = || files.next().unwrap_or_default();
    let files = Debugfs { base_pfn: next(), count: next(), order_per_bit: next(), bitmap: next() };
    match Area::of_debugfs("linux,cma", files, Rules::V6_12) {
        Ok(mut area) => {
            assert_eq!(files.count.trim().parse(), Ok(area.count()));
            let used = area.used();
            if let Ok(allocation) = area.alloc(1, 0) {
                assert!(area.used() > used && area.release(allocation.pfn, 1));
            }
            assert!(area.used() == used);
            // What `minivmm model --import` draws and says.
            let base = area.ranges().next().map_or(0, |range| range.start * PAGE_SIZE);
            let window =
                Window { name: "isp".into(), base, size: area.count() * PAGE_SIZE, ..Window::default() };
            let mut map = Map::new(&window);
            map.allocated = area.allocated();
            for pages in [1, 13, 1000] {
                let said = format!("{}{}{}", area.statistics(), area.why(pages, 4), map.to_text());
                assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
    }
});
