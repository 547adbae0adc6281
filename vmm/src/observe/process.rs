//! This process as the kernel describes it: its memory, its age, its status.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Resident memory of this process without shared memory, which guest memory is: anonymous and file pages (VmRSS - RssShmem,
/// proc(5)).
pub fn overhead() -> u64 {
    let status = status_of_main_thread();
    (field(&status, "RssAnon") + field(&status, "RssFile")) * 1024
}

/// Resident memory of this process with the guest's (VmRSS), in bytes. Pages of the host's pool of 2 MiB pages do not count.
pub fn resident() -> u64 {
    field(&status_of_main_thread(), "VmRSS") * 1024
}

/// The field `name` of a status, in kB; 0 if it has none.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The main thread's status (proc_pid_status(5)). The file stays open after the first call, because a thread in the sandbox opens no
/// files.
pub(crate) fn status_of_main_thread() -> String {
    static STATUS: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/status").ok());
    // The kernel writes it anew for each read from its start.
    let mut text = vec![0; 16 << 10];
    let length = STATUS.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// Time since this process was started. The first call reads the kernel's record of it.
pub fn since_process_start() -> Option<Duration> {
    static START: LazyLock<Option<Instant>> = LazyLock::new(|| Instant::now().checked_sub(age()?));
    START.as_ref().map(Instant::elapsed)
}

/// Time since this process was started, by the kernel's record (proc_pid_stat(5), starttime).
fn age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // These are the fields after the command's name in parentheses. The first of them is field 3; starttime is field 22.
    let start_ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()?;
    // SAFETY: sysconf reads no memory of ours.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    let uptime: f64 =
        std::fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(uptime - start_ticks as f64 / per_second as f64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_an_age() {
        assert!(overhead() > 100 << 10 && resident() >= overhead() / 2);
        assert!(since_process_start().unwrap() < Duration::from_secs(3600));
    }
}
