//! No line makes the readers of requests and answers panic, and what they take is the same when it is written and read again.

#![no_main]

use fuzz::Start;
use vmm::api::{Answer, Request};

fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"verb":"status"}"#,
        r#"{"verb":"faults","faults":{"trigger":"torn"}}"#,
        r#"{"verb":"faults","faults":{"add":"[[rule]]\nname = \"a\""}}"#,
        r#"{"verb":"faults","faults":"list"}"#,
        r#"{"verb":"frames","frames":{"step":3},"device":"camera0"}"#,
        r#"{"verb":"capture","device":"grabber1"}"#,
        r#"{"done":{}}"#,
        r#"{"error":"no"}"#,
        r#"{"cma":[{"name":"isp","base":1,"size":4096,"order_per_bit":0,"pages_allocated":1,"runs_allocated":[[0,1]],"runs_written":[]}]}"#,
        r#"{"verb":"events"}"#,
        r#"{"event":{"kind":"mark","seconds":1.5,"text":"go"}}"#,
        r#"{"event":{"kind":"fired","seconds":1.5,"device":"camera0","frame":7,"on":"frame.dma","rule":"torn","event":3,"action":"torn"}}"#,
        r#"{"event":{"kind":"end","seconds":2.5,"outcome":{"kind":"panic"},"exit":{"status":123,"meaning":"m"}}}"#,
        r#"{"devices":[{"id":"camera0","kind":"camera","counters":{"frames":1}}]}"#,
    ]
    .map(|line| line.as_bytes().to_vec())
    .into()
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let line = serde_json::to_vec(&request).expect("a request can be written");
        assert_eq!(serde_json::from_slice::<Request>(&line).ok(), Some(request));
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(bytes) {
        let line = serde_json::to_string(&answer).expect("an answer can be written");
        let again: Answer = serde_json::from_str(&line).expect("what was written can be read");
        // serde_json reads the last digit of a time only nearly as it was.
        if !matches!(again, Answer::Event(_) | Answer::Status(_)) {
            assert_eq!(serde_json::to_string(&again).ok(), Some(line));
        }
    }
});
