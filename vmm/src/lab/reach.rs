//! What a command of minivmm's uses on the host, by its words: the folders that it writes to, its socket, and the files that it reads
//! where the lab has folders of its own.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt as _, fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

use devices::virtio::net::{Forward, NetSpec, Network};

use super::{
    error::LabError,
    relay::{API, GDB, METRICS},
    settings::Lab,
};
use crate::observe::metrics::place::MetricsPlace;

/// Options whose value is a file that is written.
const FILES: [&str; 8] =
    ["--report", "--trace", "--timeline", "--console-log", "--dump-dtb", "--dump-on-panic", "--svg", "--png"];
/// The option whose value is a folder that is written; of `minivmm dtb`, a file.
const FOLDER: &str = "--out";
/// Options whose value is a socket, with the names of the sockets.
const SOCKETS: [(&str, &str); 3] = [("--api-socket", API), (DEBUGGER, GDB), (FIGURES, METRICS)];
/// The option whose value is a socket or a TCP port.
const DEBUGGER: &str = "--gdb";
/// The option whose value is a socket or a file that is written.
const FIGURES: &str = "--metrics";
/// Options whose value is a file that is read.
const READ: [&str; 5] = ["--kernel", "--initrd", "--module", "--faults", "--root"];
/// The option whose value is HOST:GUEST, with a file or folder of the host that is read.
const ADDED: &str = "--add";
/// Options whose value is a list of KEY=VALUE, and the keys whose value is a file: one that is written, and a disk.
const DEVICES: [&str; 2] = ["--camera", "--device"];
const RECORDING: &str = "record";
const DISK_FILE: &str = "file";
/// The option whose value is a disk's file, followed by such a list.
const DISK: &str = "--disk";
/// The option whose value is a shared folder, followed by such a list, and the key of such a folder.
const SHARE: &str = "--share";
const SHARED_FOLDER: &str = "dir";
/// The key of a device's socket.
const DEVICE_SOCKET: &str = "socket";
/// The fields of a disk or folder that is only read.
const READ_ONLY: [&str; 2] = ["ro", "ro=yes"];

/// The option whose value is a socket of the guest's programs, and the device with that option.
const GUEST_SOCKET: &str = "--vsock";
const GUEST_SOCKET_DEVICE: &[u8] = b"vsock,";
/// The option whose value is a network.
const NETWORK: &str = "--net";

/// Where a lab has its own: nothing there is the host's.
const OF_THE_LAB: [&str; 3] = ["/dev", "/proc", "/sys"];
/// But for this folder, in which the host's can be mounted.
const SHARED_MEMORY: &str = "/dev/shm";
/// Where a lab begins with empty folders, in which the host's can be mounted.
const EMPTY: [&str; 2] = [SHARED_MEMORY, "/run"];

impl Lab {
    /// Lets what `minivmm` uses by these `words` of its command line be the host's: the folders that it writes to, its socket, and the
    /// files that it reads.
    ///
    /// # Errors
    /// If a place cannot be reached from a lab.
    pub fn for_minivmm(mut self, words: &[OsString]) -> Result<Self, LabError> {
        let mut folders = written(words)?;
        folders.extend(hidden(words));
        for folder in outermost(&folders)? {
            self = self.writable(folder);
        }
        if let Some(forwards) = network(words)? {
            self = self.network(forwards);
        }
        let is_guest_socket = |(option, value): &(&OsStr, &OsStr)| {
            *option == GUEST_SOCKET
                || *option == DEVICES[1] && value.as_bytes().starts_with(GUEST_SOCKET_DEVICE)
        };
        if values(words).any(|option| is_guest_socket(&option)) {
            return Err(LabError::Request(
                "the socket of --vsock is for programs of this host, which the lab does not reach; --net user works there"
                    .to_owned(),
            ));
        }
        for (option, name) in SOCKETS {
            let Some((_, socket)) = values(words).find(|(found, _)| *found == option) else { continue };
            let mut file = socket.as_bytes();
            if option == DEBUGGER {
                file = file.strip_suffix(b",nowait").unwrap_or(file);
                if file.starts_with(b"tcp:") {
                    let port = socket.display();
                    return Err(LabError::Request(format!(
                        "the guest boots in a lab, which has no TCP ports for --gdb {port}; name a file instead"
                    )));
                }
            }
            if option == FIGURES {
                let Some(MetricsPlace::Socket(path)) = figures(socket) else { continue };
                self = self.socket(name, path);
                continue;
            }
            self = self.socket(name, OsStr::from_bytes(file));
        }
        Ok(self)
    }
}

/// The place that a value of `--metrics` names; none if minivmm will report what is wrong with it.
fn figures(value: &OsStr) -> Option<MetricsPlace> {
    value.to_str()?.parse().ok()
}

/// The ports of the host that lead to guests, if one has a network.
fn network(words: &[OsString]) -> Result<Option<Vec<Forward>>, LabError> {
    let mut found: Option<Vec<Forward>> = None;
    for (option, value) in values(words) {
        let value = value.to_string_lossy();
        let spec = if option == NETWORK {
            Some(&*value)
        } else if DEVICES.iter().any(|device| option == *device) {
            value.strip_prefix("net,")
        } else {
            None
        };
        // What is wrong with the value is reported by minivmm.
        let Some(Ok(NetSpec { network, .. })) = spec.map(str::parse) else { continue };
        match network {
            Network::User(forwards) => found.get_or_insert_default().extend(forwards),
            Network::Socket(path) => {
                let path = path.display();
                return Err(LabError::Request(format!(
                    "the socket {path} of a network is on this host, which the lab does not reach; write --net user"
                )));
            }
            Network::Tap(name) => {
                return Err(LabError::Request(format!(
                    "the tap device {name} is on this host, which the lab does not reach; write --net user"
                )));
            }
        }
    }
    Ok(found)
}

/// Whether the value of `option` is a place that minivmm writes to.
pub fn is_written(option: &str) -> bool {
    FILES.contains(&option)
        || option == FOLDER
        || option == GUEST_SOCKET
        || SOCKETS.iter().any(|(socket, _)| option == *socket)
}

/// Whether the value of `option` is a place that minivmm reads.
pub fn is_read(option: &str) -> bool {
    READ.contains(&option) || option == ADDED || option == DISK || option == SHARE
}

/// The values of the option `short`, which begin with a place, and those of the key `key` of devices; and whether each is only read.
fn places<'a>(
    words: &'a [OsString],
    short: &'static str,
    key: &'static str,
) -> impl Iterator<Item = (&'a OsStr, bool)> {
    values(words).filter_map(move |(option, value)| {
        let mut fields = value.as_bytes().split(|byte| *byte == b',');
        let place = if option == short {
            fields.next()
        } else if DEVICES.iter().any(|device| option == *device) {
            fields.clone().find_map(|field| value_of(key, field))
        } else {
            None
        };
        let is_read_only = fields.any(|field| READ_ONLY.iter().any(|known| field == known.as_bytes()));
        Some((OsStr::from_bytes(place?), is_read_only))
    })
}

/// The files of disks, and whether each is only read.
fn disks(words: &[OsString]) -> impl Iterator<Item = (&OsStr, bool)> {
    places(words, DISK, DISK_FILE)
}

/// The folders that are shared, and whether each is only read.
fn shares(words: &[OsString]) -> impl Iterator<Item = (&OsStr, bool)> {
    places(words, SHARE, SHARED_FOLDER).map(|(place, is_read_only)| {
        let bytes = place.as_bytes();
        // Before the last colon, as minivmm reads it.
        let end = bytes.iter().rposition(|byte| *byte == b':').unwrap_or(bytes.len());
        (OsStr::from_bytes(&bytes[..end]), is_read_only)
    })
}

/// The value of the key `key`, if `field` is `key=value`.
fn value_of<'a>(key: &str, field: &'a [u8]) -> Option<&'a [u8]> {
    field.strip_prefix(key.as_bytes())?.strip_prefix(b"=")
}

/// The options that have values: `--option value` and `--option=value`.
fn values(words: &[OsString]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    words.iter().enumerate().filter_map(|(at, word)| {
        let bytes = word.as_bytes();
        match bytes.iter().position(|byte| *byte == b'=') {
            Some(end) => Some((OsStr::from_bytes(&bytes[..end]), OsStr::from_bytes(&bytes[end + 1..]))),
            None => Some((word.as_os_str(), words.get(at + 1)?.as_os_str())),
        }
    })
}

/// The folders that are written to, which exist, each once.
fn written(words: &[OsString]) -> Result<Vec<PathBuf>, LabError> {
    let is_verb = |verb: &str| words.first().is_some_and(|word| word == verb);
    let mut folders = Vec::new();
    if is_verb("experiment") && !values(words).any(|(option, _)| option == FOLDER) {
        // Its own choice, see `minivmm experiment run --help`.
        folders.push(made("experiment-results".as_ref()));
    }
    for (option, value) in values(words) {
        if option == FOLDER && !is_verb("dtb") {
            folders.push(made(value.as_ref()));
        } else if option == FIGURES {
            if let Some(MetricsPlace::File(path)) = figures(value) {
                folders.extend(parent(&path)?);
            }
        } else if option == FOLDER || FILES.iter().any(|file| option == *file) {
            folders.extend(parent(value.as_ref())?);
        } else if DEVICES.iter().any(|device| option == *device) {
            for field in value.as_bytes().split(|byte| *byte == b',') {
                let file = value_of(RECORDING, field);
                folders.extend(
                    file.map(OsStr::from_bytes).map(|file| parent(file.as_ref())).transpose()?.flatten(),
                );
            }
        }
    }
    for (file, is_read_only) in disks(words) {
        let path = Path::new(file);
        if fs::metadata(path).is_ok_and(|there| there.file_type().is_block_device()) {
            return Err(LabError::Request(format!(
                "{} is a block device, which the lab does not reach; name a file",
                path.display()
            )));
        }
        if !is_read_only {
            folders.extend(parent(path)?);
        }
    }
    for (folder, _) in shares(words).filter(|(_, is_read_only)| !is_read_only) {
        folders.push(folder.into());
    }
    let is_socket = |field: &[u8]| value_of(DEVICE_SOCKET, field).is_some();
    let mut devices = values(words).filter(|(option, _)| DEVICES.iter().any(|device| option == device));
    if devices.any(|(_, value)| value.as_bytes().split(|byte| *byte == b',').any(is_socket)) {
        return Err(LabError::Request(
            "the lab does not reach the socket of a program on this host; run the program and minivmm in one lab"
                .to_owned(),
        ));
    }
    outermost(&folders)
}

/// The folders that the lab would hide, with files or folders that are read.
fn hidden(words: &[OsString]) -> Vec<PathBuf> {
    let read = values(words).filter_map(|(option, value)| {
        let value = value.as_bytes();
        let end = match value.iter().rposition(|byte| *byte == b':') {
            Some(colon) if option == ADDED => colon,
            _ if READ.iter().any(|read| option == *read) => value.len(),
            _ => return None,
        };
        Some(OsStr::from_bytes(&value[..end]))
    });
    let used = disks(words).chain(shares(words)).filter(|(_, is_read_only)| *is_read_only);
    let read = read.chain(used.map(|(place, _)| place));
    let folders = read.filter_map(|file| {
        let path = fs::canonicalize(file).ok()?;
        let folder = if path.is_dir() { path.clone() } else { path.parent()?.to_owned() };
        EMPTY.iter().any(|empty| path.starts_with(empty)).then_some(folder)
    });
    folders.collect()
}

/// The folder, which is made unless it exists. If that fails, minivmm reports it.
fn made(folder: &Path) -> PathBuf {
    let _ = fs::create_dir_all(folder);
    folder.to_owned()
}

/// The folder of a file.
fn parent(file: &Path) -> Result<Option<PathBuf>, LabError> {
    let is_of_the_lab =
        OF_THE_LAB.iter().any(|folder| file.starts_with(folder)) && !file.starts_with(SHARED_MEMORY);
    let exists = fs::metadata(file);
    if !is_of_the_lab && exists.is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Err(LabError::Request(format!(
            "{} is a pipe or a device, which the lab does not reach; name a file",
            file.display()
        )));
    }
    let parent =
        file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    Ok(parent.filter(|_| !is_of_the_lab).map(Path::to_owned))
}

/// The folders, except for those inside another one and those that do not exist, which minivmm reports.
fn outermost(folders: &[PathBuf]) -> Result<Vec<PathBuf>, LabError> {
    let mut found: Vec<PathBuf> = folders.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect();
    // Parents come before what is in them.
    found.sort();
    let mut outermost: Vec<PathBuf> = Vec::new();
    for folder in found {
        if folder.parent().is_none() {
            return Err(LabError::Request(
                "a file in the folder / cannot be written from the lab; name one in a folder below"
                    .to_owned(),
            ));
        }
        if !outermost.iter().any(|outer| folder.starts_with(outer)) {
            outermost.push(folder);
        }
    }
    Ok(outermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn places_of_results_are_writable() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let at = |name: &str| folder.join(name).display().to_string();
        for name in ["reports", "clips", "apart", "disks", "data", "figures", "socket"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let report = format!("--report={}", at("reports/r.json"));
        let camera = format!("scene=x.png,record={},fps=5", at("clips/c.y4m"));
        let (out, trace) = (at("new/out"), at("new/out/trace"));
        let disk = format!("--disk={},format=qcow2", at("disks/a.qcow2"));
        let (metrics, socket) = (at("figures/a.prom"), format!("--metrics=unix:{}", at("socket/m")));
        let (read, data) = (at("read/b.img,ro"), format!("disk,queues=1,file={}", at("data/c.img")));
        let found = written(&words(&[
            "--cma",
            "64M",
            "--out",
            &out,
            &report,
            "--camera",
            &camera,
            "--trace",
            &trace,
            "--exec",
            "true",
            &disk,
            "--disk",
            &read,
            "--device",
            &data,
            "--metrics",
            &metrics,
            &socket,
        ]));
        let expected =
            ["clips", "data", "disks", "figures", "new/out", "reports"].map(|name| folder.join(name));
        assert_eq!(found.unwrap(), expected);
        let tree = written(&words(&["dtb", "--out", &at("apart/tree.dtb")])).unwrap();
        assert_eq!(tree, [folder.join("apart")]);
    }

    #[test]
    fn files_are_read_where_the_lab_has_empty_folders() {
        let folder = tempfile::tempdir_in(SHARED_MEMORY).unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(at("tests")).unwrap();
        fs::write(at("x.ko"), "").unwrap();
        fs::write(at("tests/disk"), "").unwrap();
        let disk = at("tests/disk,ro");
        let added = format!("{}:/opt/tests", at("tests"));
        let found = hidden(&words(&[
            "--add",
            &added,
            "--module",
            &at("x.ko"),
            "--kernel",
            "/etc/passwd",
            "--cma",
            "/run",
            "--disk",
            &disk,
        ]));
        let tests = folder.path().join("tests");
        assert_eq!(found, [tests.clone(), folder.path().to_owned(), tests]);
    }

    #[test]
    fn a_network_is_the_labs_with_the_ports_of_all_guests() {
        let found = |list: &[&str]| network(&words(list)).map(|found| found.map(|ports| ports.len()));
        assert_eq!(found(&["--net", "none", "--device", "disk,file=net"]).unwrap(), None);
        assert_eq!(found(&["--net=user"]).unwrap(), Some(0));
        let both = ["--net", "user,forward=2222:22+udp:53:53", "--device", "net,user,forward=80:80"];
        assert_eq!(found(&both).unwrap(), Some(3));
        let error = found(&["--net", "tap=tap0"]).unwrap_err().to_string();
        assert!(error.contains("tap0 is on this host, which the lab does not reach"), "{error}");
        assert!(found(&["--net", "socket=/run/x"]).unwrap_err().to_string().contains("/run/x"));
    }

    #[test]
    fn the_labs_own_places_stay_the_labs() {
        assert!(
            written(&words(&["--report", "/dev/stdout", "--trace", "/proc/self/fd/1"])).unwrap().is_empty()
        );
        assert!(written(&words(&["--report", "/no/such/folder/report.json"])).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        let error = |option: &str| written(&words(&["--report", option])).unwrap_err().to_string();
        assert!(error("/report.json").contains("name one in a folder below"));
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(error(pipe.to_str().unwrap()).contains("is a pipe or a device"));
    }
}
