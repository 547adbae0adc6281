//! The scene that the demo's camera looks at: a landscape with six colour patches, drawn when the demo runs.

use std::path::Path;

use super::{DemoError, picture};

/// Width and height, in pixels.
const SIZE: (u32, u32) = (1280, 960);
/// The patches at the lower edge.
const PATCHES: [[u8; 3]; 6] =
    [[175, 54, 60], [70, 148, 73], [56, 61, 150], [231, 199, 31], [187, 86, 149], [8, 133, 161]];

/// Draws the scene into the file `path`, as a PNG.
pub(super) fn draw(path: &Path) -> Result<(), DemoError> {
    let (width, height) = SIZE;
    let pixels: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    picture(&pixels, SIZE, path)
}

/// The colour at a pixel.
fn pixel(x: u32, y: u32) -> [u8; 3] {
    let (x, y) = (f64::from(x) / f64::from(SIZE.0), f64::from(y) / f64::from(SIZE.1));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "x is in 0.0..1.0")]
    let patch = PATCHES[(x * PATCHES.len() as f64) as usize];
    // The hills, and the height of their ridges.
    let far = 0.52 + 0.06 * (7.0 * x).sin() + 0.02 * (19.0 * x + 1.0).sin();
    let near = 0.68 + 0.07 * (4.0 * x + 2.0).sin();
    let sun = ((x - 0.72).powi(2) + (0.75 * (y - 0.24)).powi(2)).sqrt();
    if y > 0.88 {
        // A dark gap separates the patches.
        let inside = (x * PATCHES.len() as f64).fract();
        if (0.06..0.94).contains(&inside) && y > 0.9 { patch } else { [40, 40, 40] }
    } else if y > near {
        mix([52, 92, 44], [96, 128, 58], (y - near) / 0.25)
    } else if y > far {
        mix([86, 112, 104], [120, 140, 110], (y - far) / 0.2)
    } else if sun < 0.055 {
        [255, 244, 214]
    } else {
        let sky = mix([78, 130, 196], [206, 220, 232], y / 0.55);
        mix([255, 228, 170], sky, (sun - 0.055) / 0.16)
    }
}

/// The colour between `from` and `to`, at `part` of the way, limited to 0 and 1.
fn mix(from: [u8; 3], to: [u8; 3], part: f64) -> [u8; 3] {
    let part = part.clamp(0.0, 1.0);
    std::array::from_fn(|colour| {
        let (from, to) = (f64::from(from[colour]), f64::from(to[colour]));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between two u8")]
        let mixed = (from + (to - from) * part).round() as u8;
        mixed
    })
}
