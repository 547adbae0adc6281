//! The commands of apt, and the right to run them as root.

use std::process::Command;

/// The words to put before a command so that it may install packages. None if this process may not install.
pub(crate) fn privilege() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output();
    sudo.is_ok_and(|output| output.status.success()).then_some(&["sudo", "-n"])
}

/// apt's `program` without prompts, prefixed by the words `prefix`.
pub(super) fn apt(prefix: &[&str], program: &str) -> Command {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", program];
    let mut words = prefix.iter().chain(&environment);
    let mut command = Command::new(words.next().unwrap_or(&"env"));
    // As root, apt would download as the user _apt, who cannot write to the cache, and print a warning.
    command.args(words).args(["-q", "-o", "APT::Sandbox::User=root"]);
    command
}
