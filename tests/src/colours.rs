//! The colour of a patch of a frame in any of the camera's formats, for tests that compare it with the scene.

use devices::media::{
    Layout,
    sensor::{self, Colour},
};

/// Width and height of a patch in pixels.
const PATCH: usize = 16;

/// The mean red, green and blue of a patch whose first pixel is at `[x, y]`, both even, in sRGB from 0 to 255.
/// For grey it is the luma, three times. For a raw frame it is the light on the sensor, without the effects of the lens and the
/// filters.
///
/// # Panics
/// If the patch is not in the frame.
pub fn of_patch(frame: &[u8], layout: &Layout, [x, y]: [usize; 2]) -> [f64; 3] {
    let is_raw = layout.format().is_raw();
    let mut sums = [0.0; 3];
    let mut counts = [0.0; 3];
    for (y, x) in (y..y + PATCH).flat_map(|y| (x..x + PATCH).map(move |x| (y, x))) {
        if is_raw {
            let (channel, light) = sample(frame, layout, x, y);
            sums[channel] += light;
            counts[channel] += 1.0;
        } else {
            let pixel = pixel(frame, layout, x, y);
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            counts.iter_mut().for_each(|count| *count += 1.0);
        }
    }
    let means = [0, 1, 2].map(|channel| sums[channel] / counts[channel]);
    if is_raw { developed(means) } else { means }
}

/// Red, green and blue of a pixel.
fn pixel(frame: &[u8], layout: &Layout, x: usize, y: usize) -> [f64; 3] {
    let planes: Vec<_> = layout.planes().collect();
    let byte = |plane: usize, x: usize, y: usize| {
        let start: usize = planes[..plane].iter().map(|plane| (plane.stride * plane.lines) as usize).sum();
        f64::from(frame[start + y * planes[plane].stride as usize + x])
    };
    let packed = |bytes: usize, order: [usize; 3]| order.map(|component| byte(0, x * bytes + component, y));
    let pair = x / 2;
    let [luma, u, v] = match layout.format().name {
        "RGB24" => return packed(3, [0, 1, 2]),
        "BGR24" => return packed(3, [2, 1, 0]),
        "XRGB32" => return packed(4, [1, 2, 3]),
        "XBGR32" => return packed(4, [2, 1, 0]),
        "YUYV" => [byte(0, 2 * x, y), byte(0, 4 * pair + 1, y), byte(0, 4 * pair + 3, y)],
        "UYVY" => [byte(0, 2 * x + 1, y), byte(0, 4 * pair, y), byte(0, 4 * pair + 2, y)],
        "NV12" => [byte(0, x, y), byte(1, 2 * pair, y / 2), byte(1, 2 * pair + 1, y / 2)],
        "NV16" => [byte(0, x, y), byte(1, 2 * pair, y), byte(1, 2 * pair + 1, y)],
        "YUV420" => [byte(0, x, y), byte(1, pair, y / 2), byte(2, pair, y / 2)],
        "GREY" => [byte(0, x, y), 128.0, 128.0],
        name => panic!("a pixel of {name} is not known here"),
    };
    // The inverse of BT.601 with limited range.
    let (luma, cb, cr) = ((luma - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0);
    [luma + 1.402 * cr, luma - 0.344_136 * cb - 0.714_136 * cr, luma + 1.772 * cb].map(|value| value * 255.0)
}

/// The colour of a raw sample, and its light, where 1 is saturated.
fn sample(frame: &[u8], layout: &Layout, x: usize, y: usize) -> (usize, f64) {
    // As in SRGGB10P.
    let name = layout.format().name;
    let filter = name.as_bytes()[1 + y % 2 * 2 + x % 2];
    let channel = "RGB".bytes().position(|colour| colour == filter).expect("it is the name of a raw format");
    let (bits, is_packed) = match &name[5..] {
        "10P" => (10, true),
        "12P" => (12, true),
        bits => (bits.parse().expect("it is the name of a raw format"), false),
    };
    let line = &frame[y * layout.planes().next().expect("there is one").stride as usize..];
    let bytes = |at: usize, shift: usize| u16::from(line[at]) << shift;
    let word = match (bits, is_packed) {
        (8, _) => bytes(x, 0),
        (_, false) => bytes(2 * x, 0) | bytes(2 * x + 1, 8),
        (10, _) => bytes(x / 4 * 5 + x % 4, 2) | bytes(x / 4 * 5 + 4, 0) >> (x % 4 * 2) & 3,
        (_, true) => bytes(x / 2 * 3 + x % 2, 4) | bytes(x / 2 * 3 + 2, 0) >> (x % 2 * 4) & 15,
    };
    // Truncation removes half a step on average.
    let step = f64::from(1_u16 << (sensor::BITS - bits));
    let value = f64::from(word) * step + (step - 1.0) / 2.0;
    let light = (value - f64::from(sensor::BLACK)) / f64::from(sensor::WHITE - sensor::BLACK);
    let square = |at: usize, length: u32| {
        let length = f64::from(length);
        (2.0 * at as f64 / (length - 1.0) - 1.0).powi(2) * length.powi(2)
    };
    let [width, height] = [layout.width(), layout.height()];
    let corner = f64::from(width).powi(2) + f64::from(height).powi(2);
    (channel, light / sensor::shading((square(x, width) + square(y, height)) / corner))
}

/// The sRGB codes of the light behind the filters.
fn developed(light: [f64; 3]) -> [f64; 3] {
    let Colour { white_balance, matrix } = sensor::colour();
    let balanced = [0, 1, 2].map(|channel| light[channel] * white_balance[channel]);
    matrix.map(|row| {
        let linear: f64 = row.iter().zip(balanced).map(|(part, light)| part * light).sum();
        let coded =
            if linear <= 0.003_130_8 { linear * 12.92 } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
        coded * 255.0
    })
}

/// Luma of a colour, by BT.601.
pub fn luma([red, green, blue]: [f64; 3]) -> f64 {
    0.299 * red + 0.587 * green + 0.114 * blue
}
