//! Userlands of `--root`: this machine's, and those in images of disks.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use guest_images::{Arch, Kind, userland};
use tests::{
    cross,
    guest::{self, text},
    harness::{Group, Place, Test},
    qcow2, tests,
};
use vmm::{guest::out_disk, observe::frames};

/// The tests.
pub(crate) fn group() -> Group {
    let tests = tests![an_image_is_a_userland, commands_have_the_hosts_userland];
    let tests = tests.into_iter().map(Test::the_same_everywhere).collect();
    Group { name: "userlands", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// The tests of the programs of Debian, in a userland that this machine builds.
pub(crate) fn of_debian() -> Group {
    let tests = tests![
        programs_of_debian_capture,
        programs_of_debian_capture_on_aarch64,
        the_newest_v4l2_compliance_is_content
    ];
    let tests = tests.into_iter().map(Test::only_if_thorough).collect();
    Group { name: "userlands_of_debian", place: Place::OutsideOfLabs, tests }
}

/// minivmm without a camera, with the command `exec`.
fn minivmm(options: &[&str], exec: &str) -> Command {
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["--camera", "none"]).args(options).args(["--exec", exec]);
    minivmm
}

/// This machine's programs and files, changes that stay in the guest, a folder that is shared beside them, and files for --out.
fn commands_have_the_hosts_userland() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("work")).unwrap();
    fs::write(path("work/text"), "text\n").unwrap();
    let mut minivmm = minivmm(
        &["--root", "/", "--share", "."],
        "set -e; pwd; cat text
        head -n 1 /etc/os-release
        ls -l /proc/1/exe | grep -c busybox
        rm /usr/bin/env; mkdir /usr/new; echo new > /usr/new/file; cat /usr/new/file
        cat > /dev/null; echo out > /out/file; echo shared > shared",
    );
    minivmm.arg("--out").arg(path("out")).current_dir(path("work"));
    let output = guest::run(&mut minivmm);
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let expected = format!("/mnt/work\ntext\n{}\n1\nnew\n", release.lines().next().unwrap());
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    assert!(Path::new("/usr/bin/env").exists() && !Path::new("/usr/new").exists());
    assert_eq!(fs::read_to_string(path("out/file")).unwrap(), "out\n");
    assert_eq!(fs::read_to_string(path("work/shared")).unwrap(), "shared\n");
}

/// The size of a file system.
const SIZE: u64 = 128 << 20;
/// The part of an empty one that is not zero.
const START: usize = 8 << 20;
/// The first sector of a partition.
const FIRST: u32 = 2048;

/// Makes a disk with an empty file system in the file `path`, in a partition if the table of partitions has one.
fn disk(path: &str, is_partition: bool) {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    out_disk::format(&file, SIZE).unwrap();
    if !is_partition {
        return;
    }
    let mut start = vec![0; START];
    file.read_exact_at(&mut start, 0).unwrap();
    let at = u64::from(FIRST) * 512;
    file.set_len(at + SIZE).unwrap();
    file.write_all_at(&start, at).unwrap();
    const LINUX: u8 = 0x83;
    let mut table = vec![0; 512];
    table[446 + 4] = LINUX;
    table[446 + 8..446 + 12].copy_from_slice(&FIRST.to_le_bytes());
    table[446 + 12..446 + 16].copy_from_slice(&u32::try_from(SIZE / 512).unwrap().to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&table, 0).unwrap();
}

/// A file system on a whole disk, in an image of qcow2, and one in a partition. A disk without a userland is refused.
fn an_image_is_a_userland() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    disk(&path("parted"), true);
    disk(&path("whole"), false);
    qcow2::create(Path::new(&path("qcow2")), SIZE).unwrap();
    let (parted, image) = (path("parted"), path("qcow2"));
    let make = "set -e
        dd if=/dev/vdc of=/dev/vdb bs=1M count=8 2> /dev/null
        for disk in /dev/vda1 /dev/vdb; do
            mkdir -p /tmp$disk; mount $disk /tmp$disk; cd /tmp$disk
            mkdir bin; cp /bin/busybox bin; ln -s busybox bin/sh; ln -s busybox bin/cat; ln -s busybox bin/mount
            echo $disk > name; cd /; umount /tmp$disk
        done";
    let disks = ["--disk", &parted, "--disk", &format!("{image},format=qcow2"), "--disk", &path("whole")];
    let made = guest::run(&mut minivmm(&disks, make));
    assert!(made.status.success(), "{}", text(&made.stderr));
    // All that was written is at the beginning.
    let content = |file: &String| {
        let mut content = Vec::new();
        File::open(file).unwrap().take(2 * START as u64).read_to_end(&mut content).unwrap();
        content
    };
    let before = [&parted, &image].map(content);
    fs::write(path("shared"), "shared\n").unwrap();
    let share = format!("{}:it", folder.path().display());
    for (root, name) in [(parted.clone(), "/dev/vda1"), (format!("{image},format=qcow2"), "/dev/vdb")] {
        let command = "cd /; cat name; echo changed > name; cat name /mnt/it/shared
            mount | while read -r line; do case $line in *' on / '*) echo \"${line%% *}\";; esac; done
            echo out > /out/file; exit 3";
        let options = ["--root", &root, "--share", &share, "--out", &path("out")];
        let output = guest::run(&mut minivmm(&options, command));
        let expected = format!("{name}\nchanged\nshared\nroot\n");
        assert_eq!(
            (text(&output.stdout), output.status.code()),
            (expected, Some(3)),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(fs::read_to_string(path("out/file")).unwrap(), "out\n");
        fs::remove_dir_all(path("out")).unwrap();
    }
    assert!(before == [&parted, &image].map(content), "an image has changed");
    let none = guest::run(&mut minivmm(&["--root", &path("whole")], "echo not reached"));
    let said = text(&none.stderr);
    assert_eq!((text(&none.stdout).as_str(), none.status.code()), ("", Some(123)), "{said}");
    let sentence = "the guest did not mount the userland of --root: neither the disk nor a partition of it has a file system";
    assert!(said.contains(sentence), "{said}");
}

/// The time of the programs in a lab.
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// Frames that each program captures.
const FRAMES: u64 = 60;

/// Runs `command` in the userland of a suite of Debian, in a guest with a camera that waits for its driver.
fn in_debian(arch: &'static Arch, suite: &str, command: &str, out: &Path) -> String {
    guest_images::build(arch, Kind::DEFAULT).unwrap();
    let image = userland::build(arch, suite).unwrap();
    let mut minivmm = cross::command(arch).unwrap();
    minivmm.args(["--cma", "64M", "--camera", "timing=stall", "--root"]).arg(image).arg("--out").arg(out);
    let output = guest::run_within(minivmm.args(["--exec", command]), PATIENCE);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    said
}

/// ffmpeg, GStreamer and OpenCV get whole frames in order, and convert them.
fn programs_of_debian_capture() {
    programs_capture(Arch::host());
}

/// The same in a guest of the other architecture.
fn programs_of_debian_capture_on_aarch64() {
    programs_capture(Arch::AARCH64);
}

fn programs_capture(arch: &'static Arch) {
    let folder = tempfile::tempdir().unwrap();
    let command = "set -e
        ffmpeg -v error -f v4l2 -input_format yuyv422 -video_size 640x480 -i /dev/video0 -frames:v 60 -c:v copy -f rawvideo /out/ffmpeg
        gst-launch-1.0 -q v4l2src device=/dev/video0 num-buffers=60 ! video/x-raw,format=YUY2,width=640,height=480 ! tee name=t \\
            ! queue ! filesink location=/out/gstreamer t. ! queue ! videoconvert ! video/x-raw,format=I420 ! filesink location=/out/i420
        python3 - << 'END'
import cv2
camera = cv2.VideoCapture('/dev/video0', cv2.CAP_V4L2)
camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*'YUYV'))
camera.set(cv2.CAP_PROP_FRAME_WIDTH, 640)
camera.set(cv2.CAP_PROP_FRAME_HEIGHT, 480)
read, first = camera.read()
assert read and first.shape == (480, 640, 3), first.shape
camera.set(cv2.CAP_PROP_CONVERT_RGB, 0)
with open('/out/opencv', 'wb') as file:
    for number in range(60):
        read, frame = camera.read()
        assert read, number
        file.write(frame.tobytes())
bgr = cv2.cvtColor(frame.reshape(480, 640, 2), cv2.COLOR_YUV2BGR_YUY2)
print(abs(first.mean() - bgr.mean()) < 3)
END";
    assert_eq!(in_debian(arch, userland::SUITE, command, folder.path()), "True\n");
    let layout = guest::layout("YUYV", 640, 480);
    for name in ["ffmpeg", "gstreamer", "opencv"] {
        let checked = frames::check_file(&folder.path().join(name), &layout).unwrap();
        // OpenCV has read one frame before.
        let bad = checked.bad.iter().filter(|(index, _)| name != "opencv" || *index > 0).count();
        assert_eq!((bad, checked.frames), (0, FRAMES), "{name}: {checked:?}");
    }
    // The conversion keeps the luma.
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let (packed, planar) = (read("gstreamer"), read("i420"));
    let pixels = 640 * 480;
    assert_eq!((packed.len() / (2 * pixels), planar.len() * 2 / (3 * pixels)), (60, 60));
    for (frame, converted) in packed.chunks(2 * pixels).zip(planar.chunks(pixels * 3 / 2)) {
        assert!(frame.iter().step_by(2).eq(&converted[..pixels]));
    }
}

/// v4l2-compliance 1.32, of Debian sid.
fn the_newest_v4l2_compliance_is_content() {
    let folder = tempfile::tempdir().unwrap();
    let said = in_debian(
        Arch::host(),
        "sid",
        "v4l2-compliance --version; v4l2-compliance -d /dev/video0 -s 8",
        folder.path(),
    );
    println!("{said}");
    assert!(said.contains(", Failed: 0, "), "{said}");
}
