//! No lines of the guest's agent make the control port panic or grow, and the first end that it reports stays.

#![no_main]

use std::io::Write as _;

use fuzz::Start;
use vmm::guest::agent::Control;

fuzz::target!(
    Start {
        seeds: [
            "mark it streams\nexit 7\n",
            "out memory\nmodule x.ko: Unknown symbol\nexit 0\n",
            "exit 256\nexit -1\nexit 0\n"
        ]
        .map(|lines| lines.as_bytes().to_vec())
        .into(),
        heap: Some(1 << 20),
        ..Start::default()
    },
    |bytes| {
        let mut control = Control::new(None);
        let mut end = None;
        for piece in bytes.chunks(50) {
            control.write_all(piece).expect("the port takes all");
            let now = control.end();
            assert!(end.is_none() || end == now, "{end:?} {now:?}");
            end = now;
        }
    }
);
