//! A thread of this process is confined for good, the process is not.

use std::{fs::File, io, thread};

use super::*;

/// What a thread of `kind` sees of the calls of `work`.
fn confined<T: Send + 'static>(kind: Kind, work: impl FnOnce() -> T + Send + 'static) -> T {
    violation::handle().unwrap();
    let filter = seccomp::filter(kind, Work::default()).unwrap();
    let run = move || {
        violation::this_thread_is(kind);
        seccompiler::apply_filter(&filter).unwrap();
        work()
    };
    thread::spawn(run).join().unwrap()
}

fn socket() -> io::Error {
    // SAFETY: the call takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    assert_eq!(socket, -1);
    io::Error::last_os_error()
}

/// Both in one test, as the process has one first violation.
#[test]
fn a_confined_thread_has_memory_and_locks_and_a_forbidden_call_is_named() {
    warm_allocator_up().unwrap();
    for kind in Kind::ALL {
        let works = || {
            // Larger and smaller than the allocator takes by mmap(2), and given back.
            for size in [1 << 20, 100 << 10, 4 << 20] {
                let mut blocks: Vec<Vec<u8>> = (0..4).map(|_| vec![1; size]).collect();
                blocks.iter_mut().for_each(|block| block.resize(2 * size, 2));
            }
            let numbers: std::collections::HashMap<u32, u32> =
                (0..1000).map(|number| (number, number)).collect();
            let panicked = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(())));
            let error = io::Error::last_os_error();
            assert!(numbers.len() == 1000 && panicked.is_err() && error.raw_os_error() != Some(libc::EPERM));
            thread::yield_now();
            thread::sleep(std::time::Duration::from_millis(1));
        };
        confined(kind, works);
    }
    assert_eq!(violation::first(), None);
    for kind in Kind::ALL {
        let errors = move || [socket(), File::open("/").map(drop).err().unwrap_or_else(socket)];
        for error in confined(kind, errors) {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{kind:?}");
        }
    }
    assert_eq!(violation::first().unwrap(), "the main thread called socket(2), which the sandbox forbids");
}

#[test]
fn without_a_sandbox_threads_are_free() {
    let opens = || File::open("/").is_ok();
    assert!(start(Kind::Vcpu, None, thread::Builder::new(), opens).unwrap().join().unwrap());
    enter_main().unwrap();
    assert_eq!(report(), None);
}
