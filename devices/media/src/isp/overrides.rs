//! The parameters that a program sets itself. They replace the pipeline's choice.

use super::params::{DefectPixel, Detail, LensMesh, Params, ToneCurve};

/// The parameters that a program has set. A parameter that is None keeps the pipeline's choice. All are within their ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// See [`Params::black_level`].
    pub black_level: Option<[u16; 4]>,
    /// See [`Params::defect_pixel`].
    pub defect_pixel: Option<DefectPixel>,
    /// See [`Params::lens_shading`]; the inner none switches the correction off.
    pub lens_shading: Option<Option<Box<LensMesh>>>,
    /// See [`Params::awb_range`].
    pub awb_range: Option<[u16; 2]>,
    /// See [`Params::white_balance`].
    pub white_balance: Option<[u16; 4]>,
    /// See [`Params::digital_gain`].
    pub digital_gain: Option<u16>,
    /// See [`Params::colour_matrix`].
    pub colour_matrix: Option<[[i16; 3]; 3]>,
    /// See [`Params::colour_offset`].
    pub colour_offset: Option<[i16; 3]>,
    /// See [`Params::tone_curve`].
    pub tone_curve: Option<ToneCurve>,
    /// See [`Params::detail`].
    pub detail: Option<Detail>,
}

impl Overrides {
    /// Copies the parameters that were set to `params`.
    pub fn apply(&self, params: &mut Params) {
        set(&mut params.black_level, self.black_level);
        set(&mut params.defect_pixel, self.defect_pixel);
        if let Some(mesh) = &self.lens_shading {
            // This takes no memory where both have a mesh.
            params.lens_shading.clone_from(mesh);
        }
        set(&mut params.awb_range, self.awb_range);
        set(&mut params.white_balance, self.white_balance);
        set(&mut params.digital_gain, self.digital_gain);
        set(&mut params.colour_matrix, self.colour_matrix);
        set(&mut params.colour_offset, self.colour_offset);
        set(&mut params.tone_curve, self.tone_curve);
        set(&mut params.detail, self.detail);
    }
}

fn set<T>(param: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *param = value;
    }
}
