//! Networks and vsocks with Linux's own drivers: passt, and programs of the host at Unix sockets.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use guest_images::{Arch, Kind};
use rustix::process::Signal;
use tests::{
    data::{bytes, sha256},
    guest::{self, text},
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::observe::report::Report;

/// Tests with Linux.
pub(crate) fn linux() -> Group {
    let mut tests = tests![
        streams_of_vsock_come_back_whole,
        linux_and_the_host_reach_each_other_by_passt,
        what_options_name_is_at_fault,
    ];
    // The programs of the emulated architecture's lab do not make tap devices.
    tests.push(Test::new("linux_uses_a_tap_device", linux_uses_a_tap_device).only_on(Arch::host()));
    Group { name: "networks", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

const VSOCK_ECHO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vsock-echo"));

/// The time for everything that a guest does.
const PATIENCE: Duration = Duration::from_secs(100);

/// The number of the child process `name` of the process `parent`.
fn child_of(parent: u32, name: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // PID (NAME) STATE PARENT
        stat.split_once('(').is_some_and(|(_, rest)| {
            let fields = rest.rsplit_once(") ").map(|(comm, rest)| (comm, rest.split(' ').nth(1)));
            fields.is_some_and(|(comm, of)| comm.starts_with(name) && of == Some(&parent.to_string()))
        })
    })
}

/// The port of the guest's program that takes data.
const GUEST_PORT: u16 = 22;

/// What tests transfer.
fn transferred() -> Vec<u8> {
    bytes(if Extent::asked() == Extent::Thorough { 64 << 20 } else { 4 << 20 })
}

/// The hash as sha256sum prints it.
fn hash(bytes: &[u8]) -> String {
    format!("{}  -\n", sha256(bytes))
}

/// The guest's part of [`Transfers`]: takes data at its port and answers with the hash, then sends the data to this port of `host`. The
/// host does not answer: Debian 12's passt does not end a connection in which data comes after the guest's end.
fn take_and_send(host: &str, port: u16) -> String {
    format!(
        "nc -l -p {GUEST_PORT} -e sh -c 'tee /tmp/taken | sha256sum'
        nc {host} {port} < /tmp/taken
        echo sent"
    )
}

/// A transfer from the host to the guest, and one from the guest to the host.
struct Transfers {
    port: u16,
    to_guest: JoinHandle<()>,
    from_guest: JoinHandle<Vec<u8>>,
}

impl Transfers {
    /// Sends `bytes` to the guest's program at the address `to`, and takes data at a port of `address`.
    fn begin(to: SocketAddr, address: Ipv4Addr, bytes: &[u8]) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let from_guest = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // Meanwhile data waits in the guest, which then sends much at once: frames longer than the MTU, where it may.
            thread::sleep(Duration::from_millis(500));
            let mut came = Vec::new();
            stream.read_to_end(&mut came).unwrap();
            came
        });
        let (bytes, expected) = (bytes.to_vec(), hash(bytes));
        let to_guest = thread::spawn(move || {
            let begun = Instant::now();
            // Until the program listens, the connection is refused or has an early end.
            loop {
                assert!(begun.elapsed() < PATIENCE, "nobody takes the data in the guest");
                match exchange(to, &bytes) {
                    Ok(answer) if !answer.is_empty() => return assert_eq!(answer, expected),
                    _ => thread::sleep(Duration::from_millis(200)),
                }
            }
        });
        Self { port, to_guest, from_guest }
    }

    /// Both have ended, and `bytes` came back.
    fn end(self, bytes: &[u8]) {
        self.to_guest.join().unwrap();
        assert!(self.from_guest.join().unwrap() == bytes, "the guest sends other data than it took");
    }
}

/// Sends `bytes`; returns the answer.
fn exchange(to: SocketAddr, bytes: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The address that this host has in its network, if programs of the user that passt takes may send echo requests.
fn address_for_ping() -> Option<IpAddr> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
    let bounds: Vec<u32> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
    // As root passt takes the group of nobody.
    let group = rustix::process::getegid().as_raw();
    let group = if group == 0 { 65534 } else { group };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok().filter(|()| (bounds[0]..=bounds[1]).contains(&group))?;
    Some(socket.local_addr().unwrap().ip())
}

/// DHCP, ping, transfers in both directions that either side begins, and the end of passt.
fn linux_and_the_host_reach_each_other_by_passt() {
    let bytes = transferred();
    let sum = hash(&bytes);
    let length = bytes.len() as u64;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let transfers = Transfers::begin(free, Ipv4Addr::LOCALHOST, &bytes);
    let address = address_for_ping();
    let ping = |address: IpAddr| format!("ping -q -c 2 -W 10 {address} | grep -o '2 packets received'");
    let command = format!(
        "set -e
        ifconfig eth0 | grep -o 'inet addr:[0-9.]*'
        cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu
        wget -q -O - http://10.0.2.2:{}/data | sha256sum
        {}
        {}
        until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do usleep 100000; done
        echo down",
        listener.local_addr().unwrap().port(),
        take_and_send("10.0.2.2", transfers.port),
        address.map_or_else(String::new, ping),
    );
    let served = bytes.clone();
    let _server = thread::spawn(move || serve(&listener.accept().unwrap().0, &served));
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--camera", "none", "--net", &format!("user,forward={}:{GUEST_PORT}", free.port())]);
    minivmm.args(["--timeout", "100", "--exec", &command, "--report"]).arg(&report);
    let mut child = guest::spawn(minivmm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut expected = vec!["inet addr:10.0.2.15", "52:54:00:6d:6e:00", "65520", sum.trim(), "sent"];
    expected.extend(address.map(|_| "2 packets received"));
    let mut said: Vec<String> = lines.by_ref().take(expected.len()).map(Result::unwrap).collect();
    let passt = child_of(child.id(), "passt").expect("passt is a child of minivmm");
    guest::kill(passt, Signal::KILL);
    expected.push("down");
    said.extend(lines.map(Result::unwrap));
    let status = child.wait().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(
        (said, status.code()),
        (expected.into_iter().map(str::to_owned).collect(), Some(0)),
        "{errors}"
    );
    assert!(errors.contains("the guest's network link is down: passt has ended by signal 9\n"), "{errors}");
    transfers.end(&bytes);
    let report: Report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert!(report.counter("net0.bytes_received").unwrap() > 2 * length, "{:?}", report.devices);
    assert!(report.counter("net0.bytes_sent").unwrap() > length, "{:?}", report.devices);
    assert_eq!(report.counter("net0.send_drops"), Some(0), "{:?}", report.devices);
}

/// ping, and the same transfers, over a tap device that minivmm makes.
fn linux_uses_a_tap_device() {
    const TAP: &str = "mntest0";
    const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 117, 1);
    const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 117, 2);
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        let _ = writeln!(io::stderr(), "SKIPPED: only root makes tap devices, from /dev/net/tun.");
        return;
    }
    let bytes = transferred();
    let transfers = Transfers::begin((GUEST, GUEST_PORT).into(), Ipv4Addr::UNSPECIFIED, &bytes);
    let command = format!(
        "killall udhcpc
        set -e
        ifconfig eth0 {GUEST}
        until ping -q -c 1 -W 1 {HOST} > /dev/null; do :; done
        cat /sys/class/net/eth0/mtu
        {}",
        take_and_send(&HOST.to_string(), transfers.port)
    );
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--camera", "none", "--net", &format!("tap={TAP}"), "--timeout", "100"]);
    minivmm.args(["--exec", &command, "--report"]).arg(&report);
    let prepared = thread::spawn(move || {
        let begun = Instant::now();
        while !Path::new("/sys/class/net").join(TAP).exists() {
            assert!(begun.elapsed() < PATIENCE, "minivmm makes no tap device");
            thread::sleep(Duration::from_millis(20));
        }
        let address = format!("{HOST}/24");
        for words in [["addr", "add", &address, "dev", TAP], ["link", "set", "dev", TAP, "up"]] {
            assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
        }
    });
    let output = guest::run_within(&mut minivmm, PATIENCE);
    let errors = text(&output.stderr);
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("1500\nsent\n".to_owned(), Some(0)),
        "{errors}"
    );
    prepared.join().unwrap();
    transfers.end(&bytes);
    let report: Report = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    for counter in ["net0.bytes_received", "net0.bytes_sent"] {
        assert!(report.counter(counter).unwrap() > bytes.len() as u64, "{:?}", report.devices);
    }
    // With offloads a frame can be longer than the MTU.
    assert!(report.counter("net0.long_frames_sent").unwrap() > 0, "{:?}", report.devices);
    assert!(!Path::new("/sys/class/net").join(TAP).exists(), "the tap device is gone");
}

/// Answers a request of HTTP with `bytes`.
fn serve(mut stream: &TcpStream, bytes: &[u8]) {
    let mut request = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(request.by_ref().any(|line| line.is_empty()), "the request ends with an empty line");
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
    stream.write_all(bytes).unwrap();
}

fn echo(mut stream: UnixStream) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return,
            count => stream.write_all(&buffer[..count]).unwrap(),
        }
    }
}

/// Connects to the guest's `port` when a program listens there.
fn connect(socket: &Path, port: u32) -> UnixStream {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "nobody listens in the guest");
        thread::sleep(Duration::from_millis(100));
        let Ok(mut stream) = UnixStream::connect(socket) else { continue };
        writeln!(stream, "CONNECT {port}").unwrap();
        let mut answer = Vec::new();
        // Byte by byte: data may follow.
        while let Ok(1) = (&stream).take(1).read_to_end(&mut answer) {
            if answer.ends_with(b"\n") {
                assert!(answer.starts_with(b"OK "), "{answer:?}");
                return stream;
            }
        }
    }
}

/// What an option names is missing or taken: that is a bad request, and no failure of the host.
fn what_options_name_is_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let _taken = UnixListener::bind(path("taken")).unwrap();
    drop(UnixListener::bind(path("left")).unwrap());
    for (option, value, part) in [
        ("--vsock", path("taken"), "a program already listens on the vsock socket"),
        ("--net", format!("socket={}", path("left")), "there is no connection to"),
        ("--net", "tap=lo".to_owned(), "the tap device lo cannot be used: "),
        ("--device", format!("vhost-user,socket={},id=2", path("left")), "no program answers on the socket"),
    ] {
        let mut minivmm = Command::new(guest::minivmm());
        let output = guest::run_within(minivmm.args(["--camera", "none", option, &value]), PATIENCE);
        let errors = text(&output.stderr);
        assert!(errors.contains(part) && output.status.code() == Some(2), "{option} {value}: {errors}");
    }
}

/// Each side begins a connection, and the other sends back what comes.
fn streams_of_vsock_come_back_whole() {
    let length = if Extent::asked() == Extent::Thorough { 1 << 30 } else { 64 << 20 };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("vsock-echo"), VSOCK_ECHO).unwrap();
    fs::set_permissions(path("vsock-echo"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let listener = UnixListener::bind(path("v_52")).unwrap();
    let _of_guest = thread::spawn(move || echo(listener.accept().unwrap().0));
    let socket = path("v");
    let of_host = thread::spawn(move || {
        let stream = connect(&socket, 1024);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut sender = stream.try_clone().unwrap();
        let piece = bytes(1 << 20);
        let sent = piece.clone();
        let pieces = length >> 20;
        let sending = thread::spawn(move || {
            (0..pieces).for_each(|_| sender.write_all(&sent).unwrap());
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let (mut stream, mut came) = (stream, vec![0; piece.len()]);
        for number in 0..pieces {
            stream.read_exact(&mut came).unwrap();
            assert!(came == piece, "MiB {number}");
        }
        sending.join().unwrap();
        assert_eq!(stream.read(&mut came).unwrap(), 0, "the guest's program has ended");
    });
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--camera", "none", "--vsock"]).arg(path("v")).arg("--report").arg(path("report.json"));
    minivmm.arg("--add").arg(format!("{}:/bin/", path("vsock-echo").display()));
    minivmm.args([
        "--exec",
        &format!("vsock-echo send-back 1024 & vsock-echo check 52 {length}; ! vsock-echo check 53 1; wait"),
    ]);
    let output = guest::run_within(&mut minivmm, Duration::from_secs(900));
    let errors = text(&output.stderr);
    assert_eq!(text(&output.stdout), format!("{length} bytes came back\n"), "{errors}");
    assert!(errors.contains("socket: Connection reset by peer"), "nobody listens for port 53: {errors}");
    of_host.join().unwrap();
    let report: Report = serde_json::from_slice(&fs::read(path("report.json")).unwrap()).unwrap();
    for counter in ["vsock0.bytes_received", "vsock0.bytes_sent"] {
        assert_eq!(report.counter(counter), Some(2 * length), "{:?}", report.devices);
    }
    assert!(!path("v").exists(), "the socket's file is gone");
}
