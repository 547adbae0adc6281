//! The calibration of the simulated sensor, as a tuning file for libcamera's pipeline `rkisp1`: what the maker of a camera measures.

use devices::media::sensor;

/// The points of the grid of lens shading in each direction.
const POINTS: usize = 17;
/// The gain 1 of lens shading.
const ONE: f64 = 1024.0;

/// The tuning file for frames of this size that show the whole scene.
pub(super) fn file([width, height]: [u32; 2]) -> String {
    let [width, height] = [width, height].map(f64::from);
    // The square of the distance from the middle, where 1 is a corner.
    let distance = |x: usize, y: usize| {
        let [x, y] = [(x, width), (y, height)]
            .map(|(point, length)| (point as f64 / (POINTS - 1) as f64 * 2.0 - 1.0) * length);
        (x * x + y * y) / (width * width + height * height)
    };
    let gains = (0..POINTS * POINTS).map(|at| ONE / sensor::shading(distance(at % POINTS, at / POINTS)));
    let gains = list(gains, 0);
    let matrix = list(sensor::colour().matrix.into_iter().flatten(), 4);
    // The sectors of a half; those of the other half are their mirror image.
    let sizes = list([1.0 / (POINTS - 1) as f64; (POINTS - 1) / 2], 4);
    format!(
        "%YAML 1.1
---
version: 1
algorithms:
  - Agc:
  - Awb:
  - BlackLevelCorrection:
  - LensShadingCorrection:
      x-size: [ {sizes} ]
      y-size: [ {sizes} ]
      sets:
        - ct: 5000
          r: [ {gains} ]
          gr: [ {gains} ]
          gb: [ {gains} ]
          b: [ {gains} ]
  - Ccm:
      ccms:
        - ct: 5000
          ccm: [ {matrix} ]
  - GammaOutCorrection:
      gamma: 2.2
...
"
    )
}

/// Numbers with `digits` after the point.
fn list(numbers: impl IntoIterator<Item = f64>, digits: usize) -> String {
    let numbers: Vec<_> = numbers.into_iter().map(|number| format!("{number:.digits$}")).collect();
    numbers.join(", ")
}
