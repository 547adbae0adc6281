//! Tests of `record=`: the files that hold the frames of the guest.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::atomic::AtomicBool,
    thread,
};

use y4m::Colorspace;

use super::*;
use media::{Format, SceneFile};

/// The frames of a clip: its header, and the planes of each frame.
fn clip(path: &Path) -> (Vec<u8>, Colorspace, Vec<[Vec<u8>; 3]>) {
    let mut clip = y4m::decode(File::open(path).unwrap()).unwrap();
    let (params, colorspace) = (clip.get_raw_params().to_vec(), clip.get_colorspace());
    let mut frames = Vec::new();
    loop {
        match clip.read_frame() {
            Ok(frame) => {
                frames.push(
                    [frame.get_y_plane(), frame.get_u_plane(), frame.get_v_plane()].map(<[u8]>::to_vec),
                );
            }
            Err(y4m::Error::EOF) => return (params, colorspace, frames),
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

/// The frame of `layout`, without padding, that has these planes; none if it is not of YUV.
fn frame_of(layout: &Layout, [y, u, v]: &[Vec<u8>; 3]) -> Option<Vec<u8>> {
    let weave = |planes: [&[u8]; 2]| -> Vec<u8> {
        planes[0].iter().zip(planes[1]).flat_map(|(one, other)| [*one, *other]).collect()
    };
    Some(match layout.format().name {
        "YUYV" => weave([y, &weave([u, v])]),
        "UYVY" => weave([&weave([u, v]), y]),
        "NV12" | "NV16" => [y.as_slice(), &weave([u, v])].concat(),
        "YUV420" | "GREY" => [y.as_slice(), u, v].concat(),
        _ => return None,
    })
}

fn processed() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().filter(|format| regs::channel_of_format(format) == regs::CHANNEL_PROCESSED)
}

/// A layout with padding after its lines, which a recording has not.
fn padded(fourcc: u32) -> Layout {
    let tight = Layout::new(fourcc, 322, 242).unwrap();
    let stride = |index: usize| tight.planes().nth(index).map_or(0, |plane| plane.line_bytes + 30);
    tight.with_strides([stride(0), stride(1), stride(2)]).unwrap()
}

#[test]
fn a_clip_has_every_frame_of_every_format_with_its_stamp() {
    let folder = tempfile::tempdir().unwrap();
    for format in processed() {
        let path = folder.path().join(format!("{}.y4m", format.name));
        let rig = Rig::new(&format!("timing=stall,fps=50,scene=zone-plate,record={}", path.display()));
        let layout = padded(format.fourcc);
        rig.enable(&layout);
        let frames: Vec<_> = (0..12).map(|_| rig.frame(&layout)).collect();
        drop(rig);
        let (params, colorspace, recorded) = clip(&path);
        assert_eq!(recorded.len(), frames.len(), "{}", format.name);
        let params = String::from_utf8(params).unwrap();
        assert!(
            params.starts_with("W322 H242 F50:1 Ip A1:1 C") && params.ends_with(" XCOLORRANGE=LIMITED"),
            "{params}"
        );
        for (sequence, (planes, frame)) in (0..).zip(recorded.iter().zip(&frames)) {
            match frame_of(&layout, planes) {
                Some(bytes) => {
                    let stamp = stamp::check(&bytes, &layout.tight()).unwrap();
                    assert_eq!(stamp.sequence, sequence, "{}", format.name);
                }
                None => assert_close(&layout, frame, colorspace, planes),
            }
        }
    }
}

/// Asserts that a frame of RGB equals the planes, except for rounding.
fn assert_close(layout: &Layout, frame: &[u8], colorspace: Colorspace, [y, u, v]: &[Vec<u8>; 3]) {
    assert!(matches!(colorspace, Colorspace::C444), "{colorspace:?}");
    // The positions of red, green and blue in each format.
    let places = match layout.format().name {
        "RGB24" => [0, 1, 2],
        "BGR24" | "XBGR32" => [2, 1, 0],
        "XRGB32" => [1, 2, 3],
        name => panic!("{name} is not known here"),
    };
    let plane = layout.planes().next().unwrap();
    let bytes = plane.line_bytes as usize / layout.width() as usize;
    let lines = frame.chunks(plane.stride as usize).map(|line| &line[..plane.line_bytes as usize]);
    let pixels = lines.flat_map(|line| line.chunks_exact(bytes));
    for (index, pixel) in pixels.enumerate() {
        let [r, g, b] = places.map(|place| f64::from(pixel[place]));
        // BT.601, limited range.
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        let expected = [
            16.0 + luma * 219.0 / 255.0,
            128.0 + (b - luma) / 1.772 * 224.0 / 255.0,
            128.0 + (r - luma) / 1.402 * 224.0 / 255.0,
        ];
        for (found, expected) in [y[index], u[index], v[index]].into_iter().zip(expected) {
            assert!(
                (f64::from(found) - expected).abs() < 1.5,
                "pixel {index}: {found} instead of {expected}"
            );
        }
    }
}

#[test]
fn pictures_have_the_colours_of_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    // What the guest has of the same frames as RGB.
    let expected = frames("scene=gradient", &layout(b"RGB3", 322, 242), 3);
    for format in processed() {
        let name = folder.path().join(format!("{}-%03d.png", format.name));
        let rig = Rig::new(&format!("timing=stall,scene=gradient,record={}", name.display()));
        let layout = padded(format.fourcc);
        rig.enable(&layout);
        (0..3).for_each(|_| drop(rig.frame(&layout)));
        drop(rig);
        for (number, expected) in expected.iter().enumerate() {
            let path = folder.path().join(format!("{}-{number:03}.png", format.name));
            let found =
                SceneFile::open(&path).unwrap().scaled(0, [322, 242], &AtomicBool::new(false)).unwrap();
            for at in [(40, 60), (280, 60), (40, 200), (280, 200)].map(|(x, y)| (y * 322 + x) * 3) {
                let (found, mut wanted) =
                    ([0, 1, 2].map(|c| found[at + c]), [0, 1, 2].map(|c| expected[at + c]));
                if format.name == "GREY" {
                    let [r, g, b] = wanted.map(u32::from);
                    wanted = [u8::try_from((299 * r + 587 * g + 114 * b) / 1000).unwrap(); 3];
                }
                // Neighbours share their chroma.
                let near = found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 4);
                assert!(near, "{} {number}: {found:?} instead of {wanted:?}", format.name);
            }
        }
        assert!(!folder.path().join(format!("{}-003.png", format.name)).exists());
    }
}

#[test]
fn another_size_or_rate_begins_another_clip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.y4m");
    let rig = Rig::new(&format!("timing=stall,record={}", path.display()));
    let (small, large) = (layout(b"NV12", 160, 120), layout(b"NV12", 320, 240));
    rig.enable(&small);
    for layout in [&small, &small, &large] {
        rig.frame(layout);
    }
    rig.write(regs::FRAME_INTERVAL, 20_000);
    rig.frame(&large);
    drop(rig);
    for (name, frames, begins) in [
        ("a.y4m", 2, "W160 H120 F1000000:33333 Ip A1:1 C420jpeg"),
        ("a-2.y4m", 1, "W320 H240 F1000000:33333 "),
        ("a-3.y4m", 1, "W320 H240 F50:1 "),
    ] {
        let (params, _, recorded) = clip(&folder.path().join(name));
        let params = String::from_utf8(params).unwrap();
        assert!(params.starts_with(begins) && recorded.len() == frames, "{name}: {params}");
    }
    assert!(!folder.path().join("a-4.y4m").exists());
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_camera() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.y4m");
    symlink("/dev/full", &path).unwrap();
    let rig = Rig::new(&format!("timing=stall,record={}", path.display()));
    let layout = layout(b"YUYV", 320, 240);
    rig.enable(&layout);
    for sequence in 0..30 {
        assert_eq!(stamp::check(&rig.frame(&layout), &layout).unwrap().sequence, sequence);
    }
}

/// A disk that is as slow as its reader: a pipe.
fn slow_disk(folder: &Path) -> (std::path::PathBuf, File) {
    let path = folder.join("slow.y4m");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Opened for reading and writing, so that the open does not block.
    let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    (path, reader)
}

#[test]
fn a_camera_that_stalls_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut reader) = slow_disk(folder.path());
    let rig = Rig::new(&format!("timing=stall,record={}", path.display()));
    let layout = layout(b"NV12", 320, 240);
    rig.enable(&layout);
    let copy = folder.path().join("copy.y4m");
    let count = 40;
    let header = "YUV4MPEG2 W320 H240 F1000000:33333 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n".len();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = vec![0; header + count * ("FRAME\n".len() + 320 * 240 * 3 / 2)];
            // The first ones fill the queue, and the camera stands still.
            thread::sleep(Duration::from_millis(300));
            reader.read_exact(&mut bytes).unwrap();
            fs::write(&copy, bytes).unwrap();
        });
        for _ in 0..count {
            rig.frame(&layout);
        }
    });
    drop(rig);
    let (_, _, recorded) = clip(&copy);
    let sequences: Vec<u32> = recorded
        .iter()
        .map(|planes| stamp::check(&frame_of(&layout, planes).unwrap(), &layout).unwrap().sequence)
        .collect();
    assert_eq!(sequences, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_camera_that_runs_free_leaves_frames_out() {
    let folder = tempfile::tempdir().unwrap();
    let (path, reader) = slow_disk(folder.path());
    let rig = Rig::new(&format!("timing=free,fps=500,record={}", path.display()));
    let layout = layout(b"NV12", 320, 240);
    rig.enable(&layout);
    // Without a reader, only the queue is kept, and no frame waits for the disk.
    for _ in 0..40 {
        rig.frame(&layout);
    }
    // A pipe without a reader is like a failed disk: waiting frames are dropped.
    drop(reader);
    drop(rig);
}

#[test]
fn a_recording_that_cannot_be_is_refused_before_the_camera_is_made() {
    for name in ["/nowhere/a.y4m", "/nowhere/a.png"] {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), SIZE)]).unwrap();
        let spec: CameraSpec = format!("record={name}").parse().unwrap();
        let dma = DmaPort::new(memory, 32, &[WINDOW]);
        let error = Camera::new(spec, dma, IrqLine::new().unwrap()).err().unwrap().to_string();
        assert!(error.starts_with("the recording /nowhere/a") && error.contains("No such file"), "{error}");
    }
}
