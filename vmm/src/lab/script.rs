//! The shell fragment that tells the lab's init what to run, and with what.

use std::{
    env,
    ffi::{OsStr, OsString},
    io, iter,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::inside::IN_LAB;

/// One run of a command, as the lab's init sees it.
pub(super) struct Script<'a> {
    pub command: &'a [OsString],
    pub directory: &'a Path,
    /// Whether there is a network.
    pub network: bool,
    /// Whether the share `userland` hides programs of the host's.
    pub userland: bool,
    pub environment: &'a [(OsString, OsString)],
    /// The host's folders that are writable; the n-th is the share `share<n>`.
    pub writable: &'a [PathBuf],
    /// What ends each output.
    pub mark: &'a str,
    /// If the lab continues from a saved state: the time, and random digits, which the state has not.
    pub fresh: Option<(SystemTime, &'a str)>,
    /// If the command's standard streams are a terminal of the lab's: its rows and columns.
    pub terminal: Option<&'a str>,
    /// Whether standard error comes through its own port nevertheless.
    pub errors: bool,
}

impl Script<'_> {
    /// The fragment's text.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = format!(
            "mark={}\nterminal='{}'\nerrors={}\nuserland={}\nnetwork={}\nshares() {{\n:\n",
            self.mark,
            self.terminal.unwrap_or_default(),
            if self.errors { "1" } else { "" },
            if self.userland { "1" } else { "" },
            if self.network { "1" } else { "" },
        )
        .into_bytes();
        if let Some((now, seed)) = self.fresh {
            // The lab sets its clock some tenths of a second later.
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(1);
            text.splice(0..0, format!("saved=1\nnow={}\nseed={seed}\n", now.as_secs()).into_bytes());
        }
        for (index, folder) in self.writable.iter().enumerate() {
            text.extend(format!("share share{index} ").as_bytes());
            quote(&mut text, folder.as_os_str());
            text.push(b'\n');
        }
        // env(1) of the host: it accepts names that a shell does not, and its errors are familiar.
        text.extend(b"}\ncommand() {\nexec $leader unshare -m sh /lab/enter /usr/bin/env -i --chdir=");
        quote(&mut text, self.directory.as_os_str());
        for (name, value) in self.environment {
            text.push(b' ');
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            quote(&mut text, &pair);
        }
        for word in self.command {
            text.push(b' ');
            quote(&mut text, word);
        }
        text.extend(b"\n}\n");
        text
    }
}

/// Appends `word` so that the shell takes it as it is.
fn quote(text: &mut Vec<u8>, word: &OsStr) {
    text.push(b'\'');
    for &byte in word.as_bytes() {
        if byte == b'\'' {
            text.extend(br"'\''");
        } else {
            text.push(byte);
        }
    }
    text.push(b'\'');
}

/// Our own environment, with `programs` before all else in PATH, and with the names of the `sockets` that the host has for a machine.
pub(super) fn environment<'a>(
    programs: Option<&Path>,
    sockets: impl IntoIterator<Item = &'a str>,
) -> io::Result<Vec<(OsString, OsString)>> {
    // These name sockets and pipes of the host's, which the lab cannot reach, and cargo, which builds nothing there.
    const UNREACHABLE: &[&str] = &[
        "CARGO",
        "CARGO_MAKEFLAGS",
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "MAKEFLAGS",
        "MFLAGS",
        "SSH_AUTH_SOCK",
        "WAYLAND_DISPLAY",
        "XDG_RUNTIME_DIR",
    ];
    let mut pairs: Vec<_> = env::vars_os()
        .filter(|(name, _)| name != "PATH" && !UNREACHABLE.iter().any(|unreachable| name == unreachable))
        .collect();
    let inherited = env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let folders = programs.map(Path::to_path_buf).into_iter().chain(env::split_paths(&inherited));
    let in_lab: Vec<_> = iter::once("1").chain(sockets).collect();
    pairs.push((IN_LAB.into(), in_lab.join(",").into()));
    pairs.push(("PATH".into(), env::join_paths(folders).map_err(io::Error::other)?));
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_shell_gives_every_word_back_unchanged() {
        let words: Vec<OsString> = ["", "a b", "it's", "$HOME `id` \\ \"", "two\nlines", "'"]
            .into_iter()
            .map(OsString::from)
            .chain([OsStr::from_bytes(b"\xff\xfe").to_owned()])
            .collect();
        let script = Script {
            command: &words,
            directory: Path::new("/it's here"),
            userland: true,
            network: true,
            environment: &[("FUNC%%".into(), "x'y".into())],
            writable: &["/a b".into()],
            mark: "0",
            fresh: None,
            terminal: None,
            errors: true,
        };
        // `exec` becomes a function that prints its arguments, each with a NUL after it.
        let mut text = b"share() { printf '%s\\0' \"$@\"; }\nleader=\n".to_vec();
        text.extend(script.text());
        let mut text =
            String::from_utf8(text.iter().map(|&byte| if byte > 127 { b'?' } else { byte }).collect())
                .unwrap();
        text = text.replace("exec $leader", "printf '%s\\0'");
        text.push_str("shares\ncommand\n");
        let output = Command::new("sh").arg("-c").arg(&text).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut expected = vec![
            "share0",
            "/a b",
            "unshare",
            "-m",
            "sh",
            "/lab/enter",
            "/usr/bin/env",
            "-i",
            "--chdir=/it's here",
            "FUNC%%=x'y",
        ];
        expected.extend(["", "a b", "it's", "$HOME `id` \\ \"", "two\nlines", "'", "??", ""]);
        assert_eq!(printed.split('\0').collect::<Vec<_>>(), expected);
    }

    #[test]
    fn programs_come_first_in_path() {
        let pairs = environment(Some(Path::new("/x/release")), ["api", "gdb"]).unwrap();
        assert!(pairs.contains(&(IN_LAB.into(), "1,api,gdb".into())));
        let path = &pairs.iter().find(|(name, _)| name == "PATH").unwrap().1;
        assert_eq!(env::split_paths(path).next().unwrap(), Path::new("/x/release"));
        assert_eq!(pairs.iter().filter(|(name, _)| name == "PATH").count(), 1);
    }
}
