//! No picture or clip of the user makes the reader of scenes panic or grow, and what it takes can be scaled.

#![no_main]

use std::{
    fs,
    path::PathBuf,
    process,
    sync::{LazyLock, atomic::AtomicBool},
};

use devices::media::SceneFile;
use fuzz::Start;

/// The names of files, by which formats are told apart. An input selects one by its first byte.
const NAMES: [&str; 4] = ["a.png", "a.y4m", "a.16x8.RG10.raw", "a.8x8.BA81.raw"];

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/minivmm-fuzz-{}", process::id()));
    fs::create_dir_all(&folder).expect("there is memory");
    folder
});

extern "C" fn remove() {
    let _ = fs::remove_dir_all(&*FOLDER);
}

/// A picture in each colour type, interlaced and with a palette; clips of each kind of chroma; raw frames.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (color, depth, pixel) in [
        (png::ColorType::Rgb, png::BitDepth::Eight, &[1_u8, 2, 3][..]),
        (png::ColorType::Rgba, png::BitDepth::Eight, &[1, 2, 3, 4]),
        (png::ColorType::Grayscale, png::BitDepth::Sixteen, &[1, 2]),
        (png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, &[1, 2]),
        (png::ColorType::Indexed, png::BitDepth::Eight, &[1]),
    ] {
        let mut file = vec![0];
        let mut encoder = png::Encoder::new(&mut file, 4, 3);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.set_palette(vec![0, 1, 2, 3, 4, 5]);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&pixel.repeat(12)))
            .expect("it is a picture");
        seeds.push(file);
    }
    for (chroma, samples) in [("420jpeg", 24), ("422", 32), ("444", 48), ("mono", 16), ("420p10", 48)] {
        let frame = [b"FRAME\n".to_vec(), vec![0x55; samples]].concat();
        let header = format!("YUV4MPEG2 W4 H4 F30:1 Ip A1:1 C{chroma} XCOLORRANGE=FULL\n");
        seeds.push([&[1], header.as_bytes(), &frame, &frame].concat());
    }
    seeds.push([vec![2], vec![0x12; 256]].concat());
    seeds.push([vec![3], vec![0x34; 128]].concat());
    seeds
}

/// Whether the picture or clip says that it is large: one of 1 GiB is valid, but slow.
fn is_large(bytes: &[u8]) -> bool {
    if let Some(header) = bytes.strip_prefix(b"YUV4MPEG2") {
        let header = header.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let digits = |word: &[u8]| word.iter().filter(|byte| byte.is_ascii_digit()).count();
        return header
            .split(|byte| *byte == b' ')
            .any(|word| matches!(word, [b'W' | b'H', ..]) && digits(word) > 3);
    }
    // Width and height are the first words of the first chunk.
    bytes.len() >= 24 && bytes[16..24].as_chunks::<4>().0.iter().any(|size| u32::from_be_bytes(*size) > 2000)
}

fuzz::target!(
    {
        // SAFETY: the function takes nothing, and can be called at the exit.
        unsafe { libc::atexit(remove) };
        Start { seeds: seeds(), heap: Some(256 << 20), ..Start::default() }
    },
    |bytes| {
        let Some((first, bytes)) = bytes.split_first() else { return };
        if is_large(bytes) {
            return;
        }
        let path = FOLDER.join(NAMES[usize::from(*first) % NAMES.len()]);
        fs::write(&path, bytes).expect("there is memory");
        if let Ok(scene) = SceneFile::open(&path) {
            let size = [17, 9];
            for index in 0..scene.count().min(3) {
                let scaled = scene.scaled(index, size, &AtomicBool::new(false)).expect("nothing aborts it");
                assert_eq!(scaled.len(), 3 * 17 * 9);
            }
        }
    }
);
