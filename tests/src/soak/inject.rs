//! Errors of system calls: some calls of a machine fail by chance.

use std::{fs, io, process::Command};

use devices::media::random::split_mix;

use crate::supervision::{Notification, Supervised, Supervision};

/// The calls that can fail.
#[cfg(target_arch = "x86_64")]
const HERE: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_epoll_wait, libc::SYS_renameat];
#[cfg(not(target_arch = "x86_64"))]
const HERE: &[libc::c_long] = &[];
const EVERYWHERE: &[libc::c_long] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_clone3,
];

/// Prepares `command`, some of whose calls are to fail.
pub(super) fn prepare(command: &mut Command) -> io::Result<Supervision> {
    let calls: Vec<_> = EVERYWHERE.iter().chain(HERE).copied().collect();
    Supervision::prepare(command, &calls)
}

/// Lets one call in `rate` of the command fail, after the first `after` calls.
pub(super) fn begin(
    supervision: Supervision,
    (rate, after, seed): (u64, u64, u64),
) -> io::Result<Supervised<Injector>> {
    let injector = Injector { rate, after, seed, calls: 0, counts: Vec::new() };
    supervision.begin(injector, |injector, call| injector.error(call).unwrap_or(0))
}

/// The choice of the calls that fail, and the errors so far.
pub(super) struct Injector {
    rate: u64,
    after: u64,
    seed: u64,
    calls: u64,
    /// The errors, and how often each was injected.
    pub counts: Vec<(String, u64)>,
}

impl Injector {
    /// The error of a call, if it is to fail.
    fn error(&mut self, call: &Notification) -> Option<i32> {
        self.calls += 1;
        let chance = split_mix(self.seed, self.calls);
        if self.calls <= self.after || !chance.is_multiple_of(self.rate) {
            return None;
        }
        let errors = errors(call);
        let error = *errors.get(usize::try_from((chance >> 32) % errors.len().max(1) as u64).ok()?)?;
        let name = match error {
            libc::ENOSPC => "ENOSPC",
            libc::EINTR => "EINTR",
            libc::EAGAIN => "EAGAIN",
            libc::EMFILE => "EMFILE",
            _ => "EIO",
        };
        match self.counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((name.to_owned(), 1)),
        }
        Some(error)
    }
}

/// The errors that a call can meet on a real host.
fn errors(call: &Notification) -> &'static [i32] {
    let is = |number| libc::c_long::from(call.call) == number;
    if is(libc::SYS_clone3) {
        return &[libc::EAGAIN];
    }
    if is(libc::SYS_openat) || is(libc::SYS_openat2) {
        return &[libc::EMFILE, libc::EINTR, libc::EIO];
    }
    if is(libc::SYS_linkat) || is(libc::SYS_renameat2) || is(libc::SYS_mkdirat) {
        return &[libc::ENOSPC, libc::EIO];
    }
    let on_file = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64, libc::SYS_ftruncate];
    let reads = [libc::SYS_read, libc::SYS_pread64];
    let (writes, reads) = (on_file.into_iter().any(is), reads.into_iter().any(is));
    if !writes && !reads {
        // The calls that wait. A rename of older kernels is the last of HERE.
        return if HERE.last().is_some_and(|rename| is(*rename)) { &[libc::EIO] } else { &[libc::EINTR] };
    }
    // Eventfds and timers are the kernel's own, and do not fail.
    let file = fs::read_link(format!("/proc/{}/fd/{}", call.pid, call.arguments[0])).unwrap_or_default();
    let file = file.to_string_lossy().into_owned();
    match (file.split(':').next().unwrap_or_default(), writes) {
        ("anon_inode", _) => &[],
        ("pipe", _) => &[libc::EINTR],
        ("socket", _) => &[libc::EINTR, libc::EAGAIN],
        (path, _) if path.starts_with("/proc") || path.starts_with("/dev") => &[libc::EINTR],
        (_, true) => &[libc::ENOSPC, libc::EINTR, libc::EIO],
        (_, false) => &[libc::EINTR, libc::EIO],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_of_a_program_fail() {
        let folder = tempfile::tempdir().unwrap();
        let mut failures = Vec::new();
        for seed in 0..10 {
            let mut dd = Command::new("dd");
            dd.args(["if=/dev/zero", "bs=1", "count=500"])
                .arg(format!("of={}/file", folder.path().display()));
            let supervision = prepare(&mut dd).unwrap();
            let child = dd.stderr(std::process::Stdio::piped()).spawn().unwrap();
            drop(dd);
            let injected = begin(supervision, (10, 60, seed)).unwrap();
            let output = child.wait_with_output().unwrap();
            let counts = injected.end().unwrap().counts;
            assert!(!counts.is_empty());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let has_failed = counts.iter().any(|(name, _)| name == "ENOSPC" || name == "EIO");
            assert_eq!(output.status.success(), !has_failed, "{counts:?}: {said}");
            failures.push(said);
        }
        for text in ["No space left on device", "Input/output error"] {
            assert!(failures.iter().any(|said| said.contains(text)), "{failures:?}");
        }
    }
}
