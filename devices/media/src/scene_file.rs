//! A scene from a file: a PNG, the frames of a y4m clip, or raw frames, which an ISP develops.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use fast_image_resize::{
    CropBox, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use y4m::Colorspace;

use super::{
    format::{Bayer, Layout, Pixels},
    isp::{Input, Isp, Output, Params, Rect, Statistics},
    sensor,
    yuv::{self, Encoding, Quantization, YcbcrEncoding},
};

/// The most bytes that all pictures of a file take, at three a pixel. This is 43 of the largest frames.
const BYTES_MAX: usize = 1 << 30;

/// Lines that are scaled between two looks at the abort flag.
const BAND: u32 = 16;

/// The pictures of a file: at least one, in sRGB with three bytes a pixel, all of one size.
#[derive(Debug)]
pub struct SceneFile {
    width: u32,
    height: u32,
    pictures: Vec<Vec<u8>>,
}

/// Why a file cannot be a scene.
#[derive(Debug, thiserror::Error)]
pub enum SceneFileError {
    /// It cannot be read.
    #[error("the scene {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// It is not a valid PNG.
    #[error("the scene {} is no PNG that can be shown: {source}", path.display())]
    Png {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: png::DecodingError,
    },
    /// It is not a valid y4m clip.
    #[error("the scene {} is no y4m clip that can be shown: {source}", path.display())]
    Y4m {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: y4m::Error,
    },
    /// Its name has no known extension.
    #[error("the scene {} is neither a .png nor a .y4m nor a .raw file", .0.display())]
    Name(PathBuf),
    /// The name of a file of raw frames does not have their size and format.
    #[error(
        "the scene {} does not say what its raw frames are; end its name with their size and V4L2's four characters of their \
         format, as in NAME.640x480.RG10.raw", .0.display()
    )]
    RawName(PathBuf),
    /// It is valid, but cannot be shown.
    #[error("the scene {} {what}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The reason.
        what: &'static str,
    },
}

impl SceneFile {
    /// Reads the PNG, the y4m clip or the raw frames `path`.
    ///
    /// # Errors
    /// If the file has another format, no pictures, or too many.
    pub fn open(path: &Path) -> Result<Self, SceneFileError> {
        let file =
            File::open(path).map_err(|source| SceneFileError::Read { path: path.to_owned(), source })?;
        let pictures = match path.extension().and_then(|extension| extension.to_str()) {
            Some("png") => png(path, file),
            Some("y4m") => y4m(path, file),
            Some("raw") => raw(path, file),
            _ => Err(SceneFileError::Name(path.to_owned())),
        }?;
        if pictures.pictures.is_empty() {
            return Err(SceneFileError::Unfit { path: path.to_owned(), what: "has no pictures" });
        }
        Ok(pictures)
    }

    /// The number of pictures.
    pub fn count(&self) -> usize {
        self.pictures.len()
    }

    /// Picture `index`, scaled so that it covers `width` by `height` pixels. What exceeds this size is cut at two edges. None if
    /// `abort` was set meanwhile.
    ///
    /// # Panics
    /// If there is no picture of that number, or the size is 0 in a direction.
    pub fn scaled(&self, index: usize, [width, height]: [u32; 2], abort: &AtomicBool) -> Option<Vec<u8>> {
        let source = TypedImageRef::<U8x3>::from_buffer(self.width, self.height, &self.pictures[index]);
        let source = source.expect("a picture has three bytes for each of its pixels");
        let part = CropBox::fit_src_into_dst_size(self.width, self.height, width, height, None);
        let line_height = part.height / f64::from(height);
        let mut scaled = vec![0; 3 * width as usize * height as usize];
        let mut resizer = Resizer::new();
        // A band's lines are those of the whole: the filter also reads the picture above and below the part that it is given.
        for (band, top) in
            scaled.chunks_mut(3 * width as usize * BAND as usize).zip((0..height).step_by(BAND as usize))
        {
            if abort.load(Ordering::Relaxed) {
                return None;
            }
            let lines = BAND.min(height - top);
            let mut image = TypedImage::<U8x3>::from_buffer(width, lines, band)
                .expect("a band has three bytes for each of its pixels");
            let from = part.top + f64::from(top) * line_height;
            // The sum may be rounded beyond the picture's end.
            let height = (f64::from(lines) * line_height).min(f64::from(self.height) - from);
            let options = ResizeOptions::new().crop(part.left, from, part.width, height);
            // The call names the pixel type: otherwise the code for all pixel types would be compiled, ten times that of this
            // crate.
            resizer.resize_typed(&source, &mut image, &options).expect("the part is within the picture");
        }
        Some(scaled)
    }
}

fn png(path: &Path, file: File) -> Result<SceneFile, SceneFileError> {
    let error = |source| SceneFileError::Png { path: path.to_owned(), source };
    let unfit = |what| SceneFileError::Unfit { path: path.to_owned(), what };
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(file), png::Limits { bytes: BYTES_MAX });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(error)?;
    let size = reader.output_buffer_size().filter(|size| *size <= BYTES_MAX);
    let mut bytes = vec![0; size.ok_or_else(|| unfit("is too large"))?];
    let info = reader.next_frame(&mut bytes).map_err(error)?;
    bytes.truncate(info.buffer_size());
    // Transparency is ignored.
    let rgb = match info.color_type {
        png::ColorType::Rgb => bytes,
        png::ColorType::Rgba => bytes.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
        png::ColorType::Grayscale => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
        png::ColorType::GrayscaleAlpha => {
            bytes.as_chunks().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect()
        }
        png::ColorType::Indexed => return Err(unfit("has a palette that was not resolved")),
    };
    Ok(SceneFile { width: info.width, height: info.height, pictures: vec![rgb] })
}

fn y4m(path: &Path, file: impl Read) -> Result<SceneFile, SceneFileError> {
    let error = |source| SceneFileError::Y4m { path: path.to_owned(), source };
    let unfit = |what| SceneFileError::Unfit { path: path.to_owned(), what };
    let mut clip = y4m::Decoder::new_with_limits(BufReader::new(file), y4m::Limits { bytes: BYTES_MAX })
        .map_err(error)?;
    // A clip whose header does not name its chroma is 4:2:0.
    let is_420 = matches!(
        clip.get_colorspace(),
        Colorspace::C420 | Colorspace::C420jpeg | Colorspace::C420paldv | Colorspace::C420mpeg2
    );
    if !is_420 {
        return Err(unfit("is a clip whose chroma is not 4:2:0 with 8 bits (C420)"));
    }
    let dimension =
        |length: usize| u32::try_from(length).ok().filter(|length| (2..=1 << 14).contains(length));
    let (Some(width), Some(height)) = (dimension(clip.get_width()), dimension(clip.get_height())) else {
        return Err(unfit("is a clip of less than 2 or more than 16384 pixels in a direction"));
    };
    let full = clip.get_raw_params().split(|byte| *byte == b' ').any(|word| word == b"XCOLORRANGE=FULL");
    let quantization = if full { Quantization::Full } else { Quantization::Limited };
    // Players assume BT.709 from this height on.
    let ycbcr = if height >= 720 { YcbcrEncoding::Bt709 } else { YcbcrEncoding::Bt601 };
    let encoding = Encoding { ycbcr, quantization };
    let mut pictures = Vec::new();
    let bytes = width as usize * height as usize * 3;
    loop {
        let frame = match clip.read_frame() {
            Ok(frame) => frame,
            Err(y4m::Error::EOF) => return Ok(SceneFile { width, height, pictures }),
            Err(source) => return Err(error(source)),
        };
        if (pictures.len() + 1) * bytes > BYTES_MAX {
            return Err(unfit("is a clip of more than 1 GiB in three bytes a pixel"));
        }
        let planes = [frame.get_y_plane(), frame.get_u_plane(), frame.get_v_plane()];
        let rgb = yuv::rgb_of_planes(encoding, width as usize, planes, [2, 2])
            .filter(|rgb| rgb.len() == bytes)
            .ok_or_else(|| unfit("is a clip whose planes do not fit its size"))?;
        pictures.push(rgb);
    }
}

/// Reads raw frames that follow each other, as a program that captures from the raw video node writes them. An ISP with the
/// default parameters of this sensor develops them.
fn raw(path: &Path, file: impl Read) -> Result<SceneFile, SceneFileError> {
    let unfit = |what| SceneFileError::Unfit { path: path.to_owned(), what };
    let (layout, bayer) = raw_layout(path).ok_or_else(|| SceneFileError::RawName(path.to_owned()))?;
    let size = [layout.width(), layout.height()];
    let bytes =
        usize::try_from(layout.visible_bytes()).map_err(|_| unfit("has frames that are too large"))?;
    let picture_bytes = 3 * size[0] as usize * size[1] as usize;
    let rgb =
        Layout::new(u32::from_le_bytes(*b"RGB3"), size[0], size[1]).map_err(|_| unfit("has no size"))?;
    let input = Input { size, phase: bayer.phase(), bits: sensor::BITS };
    let output = Output {
        crop: Rect { left: 0, top: 0, width: size[0], height: size[1] },
        size,
        format: rgb.format(),
    };
    let params = Params::default_for(&sensor::colour(), size);
    let mut isp =
        Isp::new(input, output, &params, 1).map_err(|_| unfit("has frames of no size for an ISP"))?;
    let mut file = BufReader::new(file);
    let mut pictures = Vec::new();
    loop {
        let mut frame = Vec::new();
        (&mut file)
            .take(bytes as u64)
            .read_to_end(&mut frame)
            .map_err(|source| SceneFileError::Read { path: path.to_owned(), source })?;
        match frame.len() {
            0 => return Ok(SceneFile { width: size[0], height: size[1], pictures }),
            length if length < bytes => return Err(unfit("ends in the middle of a frame")),
            _ if (pictures.len() + 1) * picture_bytes > BYTES_MAX => {
                return Err(unfit("has frames of more than 1 GiB in three bytes a pixel"));
            }
            _ => {}
        }
        let picture = Mutex::new(vec![0; picture_bytes]);
        let read = |y: u32, samples: &mut [u16]| {
            let line = bytes / size[1] as usize;
            bayer.packing.unpack(&frame[y as usize * line..][..line], bayer.bits, samples);
            samples.iter_mut().for_each(|sample| *sample <<= sensor::BITS - bayer.bits);
        };
        let write = |_: usize, y: u32, line: &[u8]| {
            let mut picture = picture.lock().unwrap_or_else(PoisonError::into_inner);
            picture[y as usize * line.len()..][..line.len()].copy_from_slice(line);
        };
        isp.process(&read, &write, &mut Statistics::default(), &AtomicBool::new(false));
        pictures.push(picture.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The layout of the frames of a file named like `NAME.640x480.RG10.raw`.
fn raw_layout(path: &Path) -> Option<(Layout, &'static Bayer)> {
    let name = path.file_stem()?.to_str()?;
    let (rest, code) = name.rsplit_once('.')?;
    let (width, height) = rest.rsplit_once('.').map_or(rest, |(_, size)| size).split_once('x')?;
    let code: [u8; 4] = code.as_bytes().try_into().ok()?;
    let layout =
        Layout::new(u32::from_le_bytes(code), width.parse().ok()?, height.parse().ok()?).ok()?.tight();
    match &layout.format().pixels {
        Pixels::Bayer(bayer) => Some((layout, bayer)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_png(path: &Path, color: png::ColorType, [width, height]: [u32; 2], pixel: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
        encoder.set_color(color);
        encoder.write_header().unwrap().write_image_data(&pixel.repeat((width * height) as usize)).unwrap();
    }

    fn whole(pictures: &SceneFile, index: usize, size: [u32; 2]) -> Vec<u8> {
        pictures.scaled(index, size, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn bands_make_the_whole_until_aborted() {
        for size in [[97, 83], [211, 150], [64, 48]] {
            let [width, height] = size;
            let mut random = 1_u32;
            let picture = (0..3 * 150 * 121).map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random.to_be_bytes()[0]
            });
            let pictures = SceneFile { width: 150, height: 121, pictures: vec![picture.collect()] };
            let source = TypedImageRef::<U8x3>::from_buffer(150, 121, &pictures.pictures[0]).unwrap();
            let mut expected = vec![0; 3 * width as usize * height as usize];
            let mut image = TypedImage::<U8x3>::from_buffer(width, height, &mut expected).unwrap();
            let options = ResizeOptions::new().fit_into_destination(None);
            Resizer::new().resize_typed(&source, &mut image, &options).unwrap();
            let found = whole(&pictures, 0, size);
            let differ = found.iter().zip(&expected).filter(|(found, wanted)| found.abs_diff(**wanted) > 1);
            assert_eq!(differ.count(), 0, "{size:?}");
            assert_eq!(pictures.scaled(0, size, &AtomicBool::new(true)), None);
        }
    }

    #[test]
    fn a_png_of_any_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        for (color, pixel, rgb) in [
            (png::ColorType::Rgb, &[1, 2, 3][..], [1, 2, 3]),
            (png::ColorType::Rgba, &[1, 2, 3, 4], [1, 2, 3]),
            (png::ColorType::Grayscale, &[9], [9; 3]),
            (png::ColorType::GrayscaleAlpha, &[9, 4], [9; 3]),
        ] {
            write_png(&path, color, [30, 20], pixel);
            let pictures = SceneFile::open(&path).unwrap();
            assert_eq!(pictures.count(), 1);
            assert_eq!(whole(&pictures, 0, [64, 48]), rgb.repeat(64 * 48));
        }
    }

    #[test]
    fn the_frames_of_a_clip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        let mut clip =
            y4m::encode(32, 16, y4m::Ratio::new(25, 1)).write_header(File::create(&path).unwrap()).unwrap();
        for luma in [16, 126, 235] {
            let (luma, chroma) = ([luma; 512], [128; 128]);
            clip.write_frame(&y4m::Frame::new([&luma, &chroma, &chroma], None)).unwrap();
        }
        drop(clip);
        let pictures = SceneFile::open(&path).unwrap();
        assert_eq!(pictures.count(), 3);
        for (index, grey) in [(0, 0), (1, 128), (2, 255_i32)] {
            let first = whole(&pictures, index, [32, 16])[0];
            assert!((grey - i32::from(first)).abs() <= 1, "{first} instead of {grey}");
        }
    }

    #[test]
    fn raw_frames_are_developed() {
        let folder = tempfile::tempdir().unwrap();
        for (code, bits, line_bytes) in [("RG12", 12, 320), ("pBAA", 10, 200), ("BA81", 8, 160)] {
            let path = folder.path().join(format!("a.b.160x120.{code}.raw"));
            let (layout, bayer) = raw_layout(&path).unwrap();
            assert_eq!((bayer.bits, layout.visible_bytes()), (bits, 120 * line_bytes));
            // Black, then light on all samples, which the colour matrix turns into purple.
            let mut frames = Vec::new();
            for light in [0, 1000_u16] {
                let samples = [(sensor::BLACK + light) >> (sensor::BITS - bits); 160];
                let mut line = vec![0; usize::try_from(line_bytes).unwrap()];
                bayer.packing.pack(&samples, bits, &mut line);
                frames.extend(line.repeat(120));
            }
            std::fs::write(&path, frames).unwrap();
            let pictures = SceneFile::open(&path).unwrap();
            assert_eq!(pictures.count(), 2);
            let middle = |index| {
                let picture = whole(&pictures, index, [160, 120]);
                [0, 1, 2].map(|channel| picture[3 * (60 * 160 + 80) + channel])
            };
            assert!(middle(0).iter().all(|value| *value <= 2), "{:?}", middle(0));
            let [red, green, blue] = middle(1);
            assert!(red > green && blue > green && green > 60, "{code}: {:?}", middle(1));
        }
    }

    #[test]
    fn an_unfit_file_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let says = |name: &str, content: &[u8], part: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let error = SceneFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(name), "{error}");
        };
        says("a.png", b"no", "is no PNG that can be shown");
        says("a.jpg", b"no", "is neither a .png nor a .y4m nor a .raw file");
        says("a.raw", b"no", "does not say what its raw frames are; end its name with their size");
        says("a.640x480.NV12.raw", b"no", "does not say what its raw frames are");
        says("a.640x480.RG10.raw", b"no", "ends in the middle of a frame");
        says("b.640x480.RG10.raw", b"", "has no pictures");
        says("a.y4m", b"no", "is no y4m clip that can be shown");
        says("b.y4m", b"YUV4MPEG2 W32 H16 F25:1\n", "has no pictures");
        says("c.y4m", b"YUV4MPEG2 W32 H16 F25:1 C444\n", "is not 4:2:0");
        let missing = SceneFile::open(Path::new("/nowhere/a.png")).unwrap_err().to_string();
        assert!(missing.contains("cannot be read: No such file"), "{missing}");
    }
}
