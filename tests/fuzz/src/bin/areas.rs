//! No answer of the guest's agent makes its reader panic or grow, and an area that it takes is in the guest's memory.

#![no_main]

use std::io::Write as _;

use fuzz::Start;
use vmm::guest::areas::{Agent, parse};

const MEMORY: u64 = 64 << 20;

fn seeds() -> Vec<Vec<u8>> {
    let window =
        "window linux,cma\nbase_pfn 65536\ncount 128\norder_per_bit 0\nbitmap 4294967295 3 0 2147483648\n";
    let large = "window isp\nbase_pfn 4096\ncount 64\norder_per_bit 4\nbitmap 15\n";
    [
        format!("cma 0\npage_kib 4\n{window}end 0\n"),
        format!("cma 0\npage_kib 16\n{window}{large}end 0\n"),
        format!("cma 0\npage_kib 64\n{large}end 0\n"),
        "cma 0\npage_kib 4\nno debugfs\nend 0\n".to_owned(),
        "cma 0\npage_kib 4\nwindow x\nranges\nend 0\n".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

fuzz::target!(Start { seeds: seeds(), heap: Some(8 << 20), ..Start::default() }, |bytes| {
    let mut agent = Agent::new(MEMORY);
    let (number, _) = agent.question();
    // In two pieces, as it can come.
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    for piece in [first, rest] {
        agent.write_all(piece).expect("the port takes all");
    }
    if let Some(Ok(answer)) = agent.answer(number) {
        assert!(answer.len() <= bytes.len());
        match parse(&answer, number, MEMORY) {
            Ok((page_size, areas)) => {
                for area in areas {
                    assert!(area.count() <= MEMORY / page_size && !area.name().contains(char::is_control));
                }
            }
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
        }
    }
    agent.forget(number);
});
