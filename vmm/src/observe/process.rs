//! This process as the kernel describes it: its memory, its age, its status.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Resident memory of this process in bytes, without that of memfds, which guest memory is (Rss of each mapping, proc_pid_smaps(5)).
/// The kernel looks at each page for it, so it takes milliseconds for each GiB that the guest has used.
pub fn overhead() -> u64 {
    static MAPPINGS: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/self/smaps").ok());
    let text = MAPPINGS.as_ref().map(whole).unwrap_or_default();
    let mut is_guests = false;
    let mut kib = 0;
    for line in text.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            kib += if is_guests { 0 } else { size };
        } else if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
            // The first line of a mapping.
            is_guests = line.contains(" /memfd:");
        }
    }
    kib * 1024
}

/// The same by the kernel's counters (RssAnon + RssFile, proc_pid_status(5)), at once. They can be some hundred KiB off for each thread.
pub fn overhead_by_counters() -> u64 {
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
    STATUS.as_ref().map(whole).unwrap_or_default()
}

/// The text of a file in /proc, which the kernel writes anew for each read from its start.
fn whole(file: &File) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = file.read_at(&mut piece, text.len() as u64) {
        text.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
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
        let (exact, counted) = (overhead(), overhead_by_counters());
        assert!(exact > 1 << 20 && resident() >= counted / 2, "{exact} {counted}");
        // Other tests run meanwhile.
        assert!(exact < 2 * counted + (8 << 20) && counted < 2 * exact + (8 << 20), "{exact} {counted}");
        assert!(since_process_start().unwrap() < Duration::from_secs(3600));
    }
}
