//! No text makes the reader of the model's scripts panic, and no script its run. What it prints has printable characters.

#![no_main]

use cma::{script::Script, size};
use fuzz::Start;

fn seeds() -> Vec<Vec<u8>> {
    [
        "window 64M\nrepeat 16\nalloc buffer{i} 1013\nend\nexpect ok\nalloc buffer16 1013 # the 17th\nexpect -12\nmap\nstats\n",
        "window 16M base=0x40000000 name=isp order_per_bit=2 rules=6.12\nalloc a 1 align=0\nfree a\nbusy 0x40000 5\nstats\nidle 0x40000 2\n",
        "window 4M rules=7.2\nbusy 0x40010 1\nalloc a 200\nexpect -16\nrepeat 2\nrepeat 3\nalloc x{j}.{i} 3\nend\nend\nmap\nfree x0.0\nmap\n",
        "window 8M rules=6.1\nalloc all 2048\nfree all\nalloc all 2049\nstats\n",
    ]
    .map(|script| script.as_bytes().to_vec())
    .into()
}

/// Whether a script is slow, but valid: a large window, or many turns.
fn is_slow(text: &str) -> bool {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let limit = match words.next()? {
                "window" => 256 << 20,
                "repeat" => 20,
                _ => return None,
            };
            Some(size::parse(words.next()?).ok()? > limit)
        })
        .any(|is| is)
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !is_slow(text)
    {
        match text.parse::<Script>() {
            Ok(script) => {
                for event in script.run().take(1000) {
                    let text = event.to_string();
                    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
                }
            }
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
        }
    }
});
