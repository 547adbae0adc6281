//! Tests of the ISP of rkisp1 through the driver's UAPI: parameters that a program in the guest sets, and statistics that it gets.
//!
//! Expectations are the arithmetic of `include/uapi/linux/rkisp1-config.h`, computed from a raw frame of the same scene. Enabling the
//! driver's module BDM bypasses the demosaicing: the sample of a pixel is its red, its green and its blue. So each sample shows what
//! the blocks of raw samples do to it.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    fs,
    path::Path,
    process::Command,
};

use guest_images::Kind;
use tests::{
    guest::{self, text},
    harness::{Group, Place, Test},
    tests,
};

use super::rkisp1::FUNCTIONS;

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests: Vec<Test> =
        tests![blocks_do_what_the_uapi_says].into_iter().map(Test::the_same_everywhere).collect();
    let long = tests![filters_effects_and_measurements_do_what_the_uapi_says];
    tests.extend(long.into_iter().map(Test::only_if_thorough));
    Group { name: "rkisp1_params", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// The program in the guest, see tests/guest.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rkisp1-params"));

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

/// The bits of `RKISP1_CIF_ISP_MODULE_*`.
const DPCC: u32 = 1 << 0;
const BLS: u32 = 1 << 1;
const SDG: u32 = 1 << 2;
const HST: u32 = 1 << 3;
const LSC: u32 = 1 << 4;
const AWB_GAIN: u32 = 1 << 5;
const FLT: u32 = 1 << 6;
const BDM: u32 = 1 << 7;
const CTK: u32 = 1 << 8;
const GOC: u32 = 1 << 9;
const CPROC: u32 = 1 << 10;
const AFC: u32 = 1 << 11;
const AWB: u32 = 1 << 12;
const IE: u32 = 1 << 13;
const AEC: u32 = 1 << 14;
const DPF: u32 = 1 << 16;
const DPF_STRENGTH: u32 = 1 << 17;
const ALL: u32 = 0x3_7fff;

/// The numbers of `enum v4l2_colorfx`.
const COLORFX_BW: u32 = 1;
const COLORFX_SEPIA: u32 = 2;
const COLORFX_NEGATIVE: u32 = 3;
const COLORFX_EMBOSS: u32 = 4;
const COLORFX_SKETCH: u32 = 5;
/// Colour selection.
const COLORFX_AQUA: u32 = 10;
const COLORFX_SET_CBCR: u32 = 15;

/// The black levels that are subtracted from red, green on red lines, green on blue lines and blue. A negative one adds.
const BLACK: [i32; 4] = [300, 200, 100, -50];
/// The logarithm of the number of samples of each colour that the black level is measured of.
const BLACK_SAMPLES: u32 = 16;
/// The points of a curve from 0 to 4095 for each colour, and the distances of points.
const CURVES: [fn(f64) -> f64; 3] = [|x| x.sqrt(), |x| x, |x| x * x];
const INTERVALS: [u32; 16] = [3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5];
/// Gains in units of 1/256.
const GAINS: [u32; 4] = [0x180, 0x120, 0x0e0, 0x200];
/// The segments of a logarithmic gamma curve.
const LOGARITHMIC: [u32; 16] = [6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 9, 9, 9, 9, 9];
/// The matrix of the cross-talk correction in units of 1/128, and its offsets.
const MATRIX: [[i32; 3]; 3] = [[160, -24, -8], [-30, 170, -12], [10, -60, 190]];
const OFFSETS: [i32; 3] = [100, -80, 40];
/// The increments of sepia: those of Cb in the lower byte. Bit 7 is the sign.
const TINT: u32 = 0x20 | 0x90 << 8;
/// The selection of yellow: a pixel whose red and green are above the threshold, and blue is not, keeps its colour.
const SELECTED: u32 = 0b110;
const SELECTION_THRESHOLD: u8 = 70;
/// The measurement of white in a coloured window: gains that are applied before, the window, and the limits of Y, the least Cb and Cr, the
/// limit of the sum of their distances from the references, and these.
const WHITE_GAINS: [u32; 4] = [512, 256, 256, 300];
const WHITE_WINDOW: [usize; 4] = [160, 120, 320, 240];
const WHITE_LUMA: [u8; 2] = [82, 98];
const WHITE_CHROMA: u8 = 101;
const WHITE_SUM: u8 = 91;
const WHITE_REFERENCE: [u8; 2] = [36, 130];
/// The window of the statistics of cells: its corner, and the size of a cell. The driver writes the height less 1 without its lowest bit.
const CORNER: [usize; 2] = [40, 20];
const CELL: [usize; 2] = [112, 81];
/// The windows of the focus measurement: corner and size.
const FOCUS: [[usize; 4]; 3] = [[100, 100, 200, 120], [320, 60, 80, 80], [64, 300, 500, 100]];

/// Parameters of which the guest takes a frame.
struct Set {
    name: &'static str,
    /// The modules that are on.
    on: u32,
    /// The modules whose enables stay as they are.
    kept: u32,
    /// Fields and their values.
    fields: Vec<(&'static str, Vec<i64>)>,
}

impl Set {
    fn new(name: &'static str, on: u32) -> Self {
        Self { name, on, kept: 0, fields: Vec::new() }
    }

    fn keep(self, kept: u32) -> Self {
        Self { kept, ..self }
    }

    fn with<T: TryInto<i64, Error: Debug>>(
        mut self,
        field: &'static str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        self.fields.push((field, values.into_iter().map(|value| value.try_into().unwrap()).collect()));
        self
    }

    /// A window at the corner with 5 x 5 cells.
    fn with_cells(self, field: &'static str) -> Self {
        self.with(field, [CORNER[0], CORNER[1], 5 * CELL[0], 5 * CELL[1]])
    }

    /// The commands of tests/guest/rkisp1-params.c.
    fn commands(&self) -> String {
        let mut commands = "clear\n".to_owned();
        let mut set = |field: &str, values: &[i64]| {
            let _ = write!(commands, "{field}");
            values.iter().for_each(|value| _ = write!(commands, " {value}"));
            commands.push('\n');
        };
        set("module_en_update", &[(ALL & !self.kept).into()]);
        set("module_ens", &[self.on.into()]);
        set("module_cfg_update", &[(self.on & !BDM).into()]);
        self.fields.iter().for_each(|(field, values)| set(field, values));
        let verb = if self.on & (AWB | AEC | HST | AFC) == 0 { "take" } else { "measure" };
        commands + &format!("{verb} /out/{}\n", self.name)
    }
}

/// The points of a curve, which has `most` at 4096.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "points have 12 bits")]
fn points(curve: fn(f64) -> f64, most: f64, widths: [u32; 16], base: u32) -> Vec<u32> {
    let at = |index: usize| widths[..index].iter().map(|width| 1 << (width + base)).sum::<u32>();
    (0..17).map(|index| (curve(f64::from(at(index)) / 4096.0) * most).round() as u32).collect()
}

/// Blocks whose arithmetic is published, and three measurements, in the order in which they are applied.
fn published() -> Vec<Set> {
    let degamma = |curve: usize| points(CURVES[curve], 4095.0, INTERVALS, 4);
    let increments = |half: usize| {
        let nibbles =
            INTERVALS[8 * half..][..8].iter().zip(0..).map(|(interval, nibble)| interval << (4 * nibble));
        [nibbles.sum::<u32>()]
    };
    let gains = |colour: usize| (0..17 * 17).map(move |at| lens_gain(colour, at % 17, at / 17));
    vec![
        Set::new("bypass", BDM),
        Set::new("bls", BDM | BLS)
            .with("others.bls_config.fixed_val.r", [BLACK[0]])
            .with("others.bls_config.fixed_val.gr", [BLACK[1]])
            .with("others.bls_config.fixed_val.gb", [BLACK[2]])
            .with("others.bls_config.fixed_val.b", [BLACK[3]]),
        Set::new("sdg", BDM | SDG)
            .with("others.sdg_config.curve_r.gamma_y", degamma(0))
            .with("others.sdg_config.curve_g.gamma_y", degamma(1))
            .with("others.sdg_config.curve_b.gamma_y", degamma(2))
            .with("others.sdg_config.xa_pnts.gamma_dx0", increments(0))
            .with("others.sdg_config.xa_pnts.gamma_dx1", increments(1)),
        Set::new("lsc", BDM | LSC)
            .with("others.lsc_config.r_data_tbl", gains(0))
            .with("others.lsc_config.gr_data_tbl", gains(1))
            .with("others.lsc_config.gb_data_tbl", gains(2))
            .with("others.lsc_config.b_data_tbl", gains(3))
            .with("others.lsc_config.x_size_tbl", [40_u32; 8])
            .with("others.lsc_config.y_size_tbl", [30_u32; 8])
            .with("others.lsc_config.x_grad_tbl", [32_768_u32 / 40; 8])
            .with("others.lsc_config.y_grad_tbl", [32_768_u32 / 30; 8]),
        // The driver's measurement of white balance switches the gains off together with it.
        Set::new("gains", BDM | AWB_GAIN)
            .keep(AWB)
            .with("others.awb_gain_config.gain_red", [GAINS[0]])
            .with("others.awb_gain_config.gain_green_r", [GAINS[1]])
            .with("others.awb_gain_config.gain_green_b", [GAINS[2]])
            .with("others.awb_gain_config.gain_blue", [GAINS[3]]),
        Set::new("goc-equidistant", BDM | GOC)
            .with("others.goc_config.mode", [1_u32])
            .with("others.goc_config.gamma_y", points(CURVES[0], 1023.0, [8; 16], 0)),
        Set::new("goc-logarithmic", BDM | GOC)
            .with("others.goc_config.mode", [0_u32])
            .with("others.goc_config.gamma_y", points(CURVES[0], 1023.0, LOGARITHMIC, 0)),
        Set::new("plain", 0),
        Set::new("ctk", CTK)
            .with("others.ctk_config.coeff", MATRIX.as_flattened().iter().map(|value| value & 0x7ff))
            .with("others.ctk_config.ct_offset", OFFSETS.map(|value| value & 0xfff)),
        Set::new("cproc", CPROC)
            .with("others.cproc_config.contrast", [0x60_u32])
            .with("others.cproc_config.brightness", [40_u32])
            .with("others.cproc_config.sat", [0xc0_u32]),
        Set::new("cproc-hue", CPROC)
            .with("others.cproc_config.contrast", [0x80_u32])
            .with("others.cproc_config.brightness", [-60_i32])
            .with("others.cproc_config.sat", [0x80_u32])
            .with("others.cproc_config.hue", [0x20_u32]),
        Set::new("cells", BDM | AEC | HST | AFC)
            .with("meas.aec_config.mode", [1_u32])
            .with_cells("meas.aec_config.meas_window")
            .with("meas.hst_config.mode", [3_u32])
            .with("meas.hst_config.histogram_predivider", [4_u32])
            .with_cells("meas.hst_config.meas_window")
            .with("meas.hst_config.hist_weight", (0..25).map(weight))
            .with("meas.afc_config.num_afm_win", [3_u32])
            .with("meas.afc_config.afm_win[0]", FOCUS[0])
            .with("meas.afc_config.afm_win[1]", FOCUS[1])
            .with("meas.afc_config.afm_win[2]", FOCUS[2])
            .with("meas.afc_config.var_shift", [0x0004_0000_u32]),
    ]
}

/// The other blocks, which change little of a smooth picture, and the other measurements.
fn others() -> Vec<Set> {
    let effect = |name, number: u32| Set::new(name, IE).keep(IE).with("others.ie_config.effect", [number]);
    let white = |name, mode: u32| {
        Set::new(name, BDM | AWB | AWB_GAIN)
            .with("meas.awb_meas_config.awb_mode", [mode])
            .with("meas.awb_meas_config.awb_wnd", [0, 0, WIDTH, HEIGHT])
            .with("meas.awb_meas_config.max_csum", [255_u32])
            .with("others.awb_gain_config.gain_red", [256_u32])
            .with("others.awb_gain_config.gain_green_r", [256_u32])
            .with("others.awb_gain_config.gain_green_b", [256_u32])
            .with("others.awb_gain_config.gain_blue", [256_u32])
            .with("meas.awb_meas_config.awb_ref_cb", [128_u32])
            .with("meas.awb_meas_config.awb_ref_cr", [128_u32])
    };
    let filter = |name, stage: u32, factor: u32| {
        Set::new(name, FLT)
            .with("others.flt_config.grn_stage1", [stage])
            .with("others.flt_config.fac_mid", [factor])
            .with("others.flt_config.lum_weight", [128_u32])
    };
    let denoise = |name, inverse: u32| {
        Set::new(name, BDM | DPF | DPF_STRENGTH)
            .with("others.dpf_config.g_flt.spatial_coeff", [16_u32; 6])
            .with("others.dpf_config.g_flt.gr_enable", [1_u32])
            .with("others.dpf_config.g_flt.gb_enable", [1_u32])
            .with("others.dpf_config.rb_flt.spatial_coeff", [16_u32; 6])
            .with("others.dpf_config.rb_flt.r_enable", [1_u32])
            .with("others.dpf_config.rb_flt.b_enable", [1_u32])
            .with("others.dpf_config.nll.coeff", [inverse; 17])
            .with("others.dpf_strength_config.r", [64_u32])
            .with("others.dpf_strength_config.g", [64_u32])
            .with("others.dpf_strength_config.b", [64_u32])
    };
    // Limits that each exclude a part of the pixels of a coloured picture.
    let coloured = |name, mode: u32| {
        Set::new(name, AWB | AWB_GAIN)
            .with("meas.awb_meas_config.awb_mode", [mode])
            .with("meas.awb_meas_config.awb_wnd", WHITE_WINDOW)
            .with("meas.awb_meas_config.min_y", [WHITE_LUMA[0]])
            .with("meas.awb_meas_config.max_y", [WHITE_LUMA[1]])
            .with("meas.awb_meas_config.enable_ymax_cmp", [1_u32])
            .with("meas.awb_meas_config.min_c", [WHITE_CHROMA])
            .with("meas.awb_meas_config.max_csum", [WHITE_SUM])
            .with("meas.awb_meas_config.awb_ref_cb", [WHITE_REFERENCE[0]])
            .with("meas.awb_meas_config.awb_ref_cr", [WHITE_REFERENCE[1]])
            .with("others.awb_gain_config.gain_red", [WHITE_GAINS[0]])
            .with("others.awb_gain_config.gain_green_r", [WHITE_GAINS[1]])
            .with("others.awb_gain_config.gain_green_b", [WHITE_GAINS[2]])
            .with("others.awb_gain_config.gain_blue", [WHITE_GAINS[3]])
    };
    // A configuration of the demosaicing leaves its bypass as it is.
    let demosaic = |name, threshold: u32| {
        Set::new(name, 0).with("module_cfg_update", [BDM]).with("others.bdm_config.demosaic_th", [threshold])
    };
    vec![
        // Peak gradient and rank neighbour difference find a pixel. The median of eight neighbours replaces it.
        Set::new("dpcc", BDM | DPCC)
            .with("others.dpcc_config.mode", [4_u32])
            .with("others.dpcc_config.output_mode", [0xc_u32])
            .with("others.dpcc_config.set_use", [1_u32])
            .with("others.dpcc_config.methods0", [0x0909_u32, 0, 0, 0x0808, 0x0a0a, 0])
            .with("others.dpcc_config.rnd_offs", [0xaaa_u32]),
        denoise("dpf-weak", 1023),
        denoise("dpf-strong", 1),
        Set::new("plain", 0),
        filter("flt-through", 8, 8),
        filter("flt-blur", 0, 0),
        // Enabling the effects selects the first one; a configuration without that selects the others.
        Set::new("ie-bw", IE).with("others.ie_config.effect", [COLORFX_BW]),
        effect("ie-negative", COLORFX_NEGATIVE),
        effect("ie-tint", COLORFX_SET_CBCR).with("others.ie_config.eff_tint", [TINT]),
        // -1 for the pixel to the left, and 1 for the one to the right.
        effect("ie-emboss", COLORFX_EMBOSS)
            .with("others.ie_config.eff_mat_1", [0xc000_u32])
            .with("others.ie_config.eff_mat_2", [0x0080_u32]),
        effect("ie-sketch", COLORFX_SKETCH).with("others.ie_config.eff_mat_4", [0x080c_u32]),
        // The driver writes the increments for `COLORFX_SET_CBCR` alone: they stay.
        effect("ie-sepia", COLORFX_SEPIA),
        effect("ie-select", COLORFX_AQUA)
            .with("others.ie_config.color_sel", [SELECTED | u32::from(SELECTION_THRESHOLD) << 8]),
        demosaic("bdm-always", 0),
        demosaic("bdm-hardly", 255),
        // The driver writes the limits in this mode only. In that of RGB, which it does not leave any more, they are those of green, blue and
        // red.
        white("white-ycbcr", 2).with("meas.awb_meas_config.min_y", [60_u32]),
        Set::new("luma", AEC | HST)
            .with("meas.aec_config.mode", [0_u32])
            .with_cells("meas.aec_config.meas_window")
            .with("meas.hst_config.mode", [5_u32])
            .with("meas.hst_config.histogram_predivider", [3_u32])
            .with_cells("meas.hst_config.meas_window")
            .with("meas.hst_config.hist_weight", [16_u32; 25]),
        // The threshold of the demosaicing is still the largest one: colours are interpolated linearly.
        coloured("coloured-ycbcr", 2),
        white("white-rgb", 1),
        coloured("coloured-rgb", 1),
        Set::new("measured", BDM | BLS | AEC)
            .with_cells("meas.aec_config.meas_window")
            .with("others.bls_config.enable_auto", [1_u32])
            .with("others.bls_config.en_windows", [1_u32])
            // The driver takes the size as the last column and line.
            .with("others.bls_config.bls_window1", [0, 0, WIDTH, HEIGHT])
            .with("others.bls_config.bls_samples", [BLACK_SAMPLES]),
    ]
}

/// The gain of a colour at a corner of a sector, in units of 1/1024.
fn lens_gain(colour: usize, x: usize, y: usize) -> usize {
    1024 + 60 * colour + 30 * x + 20 * y
}

/// The weight of a cell of the histogram.
fn weight(cell: u32) -> u32 {
    [16, 1, 0, 7, 15][cell as usize % 5]
}

/// A frame in the format NV16.
struct Picture(Vec<u8>);

impl Picture {
    fn luma(&self, x: usize, y: usize) -> f64 {
        self.0[y * WIDTH + x].into()
    }

    /// Cb and Cr of the pixel, which has an even column.
    fn chroma(&self, x: usize, y: usize) -> [f64; 2] {
        let at = WIDTH * HEIGHT + y * WIDTH + x;
        [self.0[at].into(), self.0[at + 1].into()]
    }
}

/// What the guest made: the raw frame with 12 bits, the pictures, and the statistics by their names.
struct Made {
    raw: Vec<f64>,
    /// Whether the samples of each colour around a pixel are nearly the same, so that any demosaicing makes nearly the same of them.
    smooth: Vec<bool>,
    pictures: BTreeMap<String, Picture>,
    statistics: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
}

impl Made {
    /// Has a guest apply the sets, and do what other commands say then.
    #[track_caller]
    fn by(sets: &[Set], then: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let commands = sets.iter().map(Set::commands).collect::<String>() + then;
        let script = format!(
            "{FUNCTIONS}
            modules; only mainpath; sensor SRGGB10_1X10 640x480
            v4l2-ctl -d $(media-ctl -e \"imx219 0-0010\") --set-ctrl exposure=900 || exit 7
            isp SRGGB10_1X10 640x480; path mainpath SRGGB10_1X10 640x480 SRGGB10_1X10 640x480
            stream mainpath 640 480 RG10 1 raw
            isp YUYV8_2X8 640x480; path mainpath YUYV8_2X8 640x480 YUYV8_2X8 640x480
            rkisp1-params $(media-ctl -e rkisp1_mainpath) $(media-ctl -e rkisp1_params) \
                $(media-ctl -e rkisp1_stats) 640 480 < /commands || exit 8
            [ -z \"$(quiet)\" ] || {{ quiet; exit 9; }}"
        );
        let files = [("bin/rkisp1-params", PROGRAM), ("commands", commands.as_bytes())];
        let initrd = guest::initramfs_with(Kind::DEFAULT, &files);
        let mut minivmm = Command::new(guest::minivmm());
        // Hardly any blue light: the blue of this scene is not smooth.
        minivmm.args(["--cma", "96M", "--camera", "none", "--seed", "7", "--device"]);
        minivmm.arg("rkisp1,scene=gradient,noise=no,defects=150,lamp=1:1:0.01");
        minivmm.arg("--initrd").arg(initrd.path()).arg("--out").arg(&out).args(["--exec", &script]);
        let output = guest::run(&mut minivmm);
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
        Self::read(&out)
    }

    /// Reads what the guest wrote.
    fn read(out: &Path) -> Self {
        let mut made = Self {
            raw: Vec::new(),
            smooth: vec![false; WIDTH * HEIGHT],
            pictures: BTreeMap::new(),
            statistics: BTreeMap::new(),
        };
        for entry in fs::read_dir(out).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let bytes = fs::read(&path).unwrap();
            if name == "raw" {
                let samples = bytes.as_chunks().0.iter();
                made.raw = samples.map(|sample| f64::from(u16::from_le_bytes(*sample) << 2)).collect();
            } else if path.extension().is_some() {
                let lines = str::from_utf8(&bytes).unwrap().lines().map(|line| {
                    let (of, numbers) = line.split_once(' ').unwrap();
                    (of.to_owned(), numbers.split(' ').map(|number| number.parse().unwrap()).collect())
                });
                made.statistics.insert(name, lines.collect());
            } else {
                made.pictures.insert(name, Picture(bytes));
            }
        }
        for (x, y) in compared().filter(|&(x, y)| is_inside(x, y)) {
            made.smooth[y * WIDTH + x] = (0..3).all(|plane| {
                let (least, most) = range(made.samples(x, y, 3, plane));
                most - least <= 24.0
            });
        }
        made
    }

    fn sample(&self, x: usize, y: usize) -> f64 {
        self.raw[y * WIDTH + x]
    }

    /// A sample with 8 bits, as measurements take it.
    fn code(&self, x: usize, y: usize) -> f64 {
        self.sample(x, y) / 16.0
    }

    /// The samples of a colour within `reach` of a pixel.
    fn samples(&self, x: usize, y: usize, reach: usize, plane: usize) -> impl Iterator<Item = f64> {
        around(x, y, reach, plane).map(|(x, y)| self.sample(x, y))
    }

    fn is_smooth(&self, x: usize, y: usize) -> bool {
        self.smooth[y * WIDTH + x]
    }

    /// Red, green and blue of a pixel by linear interpolation.
    fn rgb(&self, x: usize, y: usize) -> [f64; 3] {
        interpolated(x, y, |x, y| self.sample(x, y))
    }

    /// The same with the corrections of Malvar, He and Cutler ("High-quality linear interpolation for demosaicing of Bayer-patterned
    /// color images", 2004), where they exceed the threshold. None if rounding decides about that.
    fn demosaiced(&self, x: usize, y: usize, threshold: f64) -> Option<[f64; 3]> {
        let at = |dx: isize, dy: isize| self.sample(x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
        let (across, down) = (at(-2, 0) + at(2, 0), at(0, -2) + at(0, 2));
        let gradient = 4.0 * at(0, 0) - across - down;
        let of_green = 5.0 * at(0, 0) - at(-1, -1) - at(1, -1) - at(-1, 1) - at(1, 1);
        let (beside, above) = (of_green - across + down / 2.0, of_green - down + across / 2.0);
        // In eighths, and the parts of them that are added.
        let [gradients, parts] = match colour(x, y) {
            0 => [[0.0, gradient, gradient], [0.0, 1.0, 1.5]],
            1 => [[beside, 0.0, above], [1.0, 0.0, 1.0]],
            2 => [[above, 0.0, beside], [1.0, 0.0, 1.0]],
            _ => [[gradient, gradient, 0.0], [1.5, 1.0, 0.0]],
        };
        let sizes = gradients.map(|gradient| gradient.abs() / 8.0);
        let is_sure = sizes.iter().all(|size| (size - threshold).abs() > 2.0 || *size < 2.0);
        let linear = self.rgb(x, y);
        is_sure.then(|| {
            [0, 1, 2].map(|plane| {
                let part = if sizes[plane] > threshold { parts[plane] } else { 0.0 };
                linear[plane] + part * gradients[plane] / 8.0
            })
        })
    }

    /// Asserts that a picture has the values of red, green and blue with 12 bits that `of` gives a pixel, but for those to which it
    /// gives none.
    #[track_caller]
    fn assert_is(&self, name: &str, least: usize, of: impl Fn(usize, usize) -> Option<[f64; 3]>) {
        self.assert_coded(name, least, |x, y| {
            of(x, y).map(|rgb| encode(rgb.map(|value| value.clamp(0.0, 4095.0) / 4.0)))
        });
    }

    /// The same, of Y, Cb and Cr.
    #[track_caller]
    fn assert_coded(&self, name: &str, least: usize, of: impl Fn(usize, usize) -> Option<[f64; 3]>) {
        let picture = &self.pictures[name];
        let mut count = 0;
        for (x, y) in compared() {
            let Some([luma, cb, cr]) = of(x, y) else { continue };
            let found = picture.luma(x, y);
            assert!((found - luma).abs() <= 1.0, "{name}: Y at {x}, {y} is {found}, not {luma}");
            if x % 2 == 0 {
                let found = picture.chroma(x, y);
                let near = (found[0] - cb).abs() <= 1.0 && (found[1] - cr).abs() <= 1.0;
                assert!(near, "{name}: Cb and Cr at {x}, {y} are {found:?}, not {cb}, {cr}");
            }
            count += 1;
        }
        assert!(count >= least, "{name}: only {count} pixels are compared");
    }
}

/// Red, green and blue as the colours of a Bayer pattern.
const PLANES: [usize; 4] = [0, 1, 1, 2];

/// The colour of a pixel: red, green on red lines, green on blue lines, or blue.
fn colour(x: usize, y: usize) -> usize {
    2 * (y % 2) + x % 2
}

/// The pixels of a colour within `reach` of a pixel.
fn around(x: usize, y: usize, reach: usize, plane: usize) -> impl Iterator<Item = (usize, usize)> {
    let side = 2 * reach + 1;
    window([x - reach, y - reach, side, side]).filter(move |&(x, y)| PLANES[colour(x, y)] == plane)
}

/// Red, green and blue of a pixel of samples by linear interpolation.
fn interpolated(x: usize, y: usize, sample: impl Fn(usize, usize) -> f64) -> [f64; 3] {
    [0, 1, 2].map(|plane| {
        if PLANES[colour(x, y)] == plane {
            sample(x, y)
        } else {
            mean(around(x, y, 1, plane).map(|(x, y)| sample(x, y)))
        }
    })
}

fn pixels() -> impl Iterator<Item = (usize, usize)> + Clone {
    window([0, 0, WIDTH, HEIGHT])
}

/// The pixels that are compared: those of each fifth pair of lines, as a guest of a guest takes long.
fn compared() -> impl Iterator<Item = (usize, usize)> {
    pixels().filter(|(_, y)| y / 2 % 5 == 0)
}

/// The number of these.
const COMPARED: usize = WIDTH * HEIGHT / 5;

/// Whether the kernels of all filters lie within the frame.
fn is_inside(x: usize, y: usize) -> bool {
    (6..WIDTH - 6).contains(&x) && (6..HEIGHT - 6).contains(&y)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The least and the largest.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(least, most), value| (value.min(least), value.max(most)))
}

/// Y, Cb and Cr of 10-bit red, green and blue: the driver's matrix for BT.601 in limited range, in units of 1/128.
fn encode([r, g, b]: [f64; 3]) -> [f64; 3] {
    let row = |weights: [f64; 3]| (weights[0] * r + weights[1] * g + weights[2] * b) / 512.0;
    [
        (16.0 + row([33.0, 66.0, 13.0])).clamp(16.0, 235.0),
        (128.0 + row([-19.0, -37.0, 56.0])).clamp(16.0, 240.0),
        (128.0 + row([56.0, -47.0, -9.0])).clamp(16.0, 240.0),
    ]
}

/// Red, green and blue with 8 bits of Y, Cb and Cr by BT.601 in limited range.
fn decode([luma, cb, cr]: [f64; 3]) -> [f64; 3] {
    let (luma, cb, cr) =
        ((luma - 16.0) * 255.0 / 219.0, (cb - 128.0) * 255.0 / 224.0, (cr - 128.0) * 255.0 / 224.0);
    [luma + 1.402 * cr, luma - 0.344_136 * cb - 0.714_136 * cr, luma + 1.772 * cb]
        .map(|value| value.clamp(0.0, 255.0))
}

/// A curve with linear segments, whose points lie at sums of powers of two.
fn curve(of: fn(f64) -> f64, most: f64, widths: [u32; 16], base: u32, at: f64) -> f64 {
    let mut start = 0.0;
    for width in widths {
        let end = start + f64::from(1 << (width + base));
        if at < end {
            let [low, high] = [start, end].map(|x| (of(x / 4096.0) * most).round());
            return low + (high - low) * (at - start) / (end - start);
        }
        start = end;
    }
    most
}

fn blocks_do_what_the_uapi_says() {
    let made = Made::by(&published(), "");
    raw_blocks(&made);
    picture_blocks(&made);
    cells(&made);
}

fn filters_effects_and_measurements_do_what_the_uapi_says() {
    let made = Made::by(&others(), "repeat /out/measured-next\n");
    filters(&made);
    effects(&made);
    demosaicing(&made);
    measurements(&made);
    coloured_white(&made);
}

/// Blocks of raw samples, and gamma out: every pixel counts.
fn raw_blocks(made: &Made) {
    let all = COMPARED;
    let grey = |value: f64| Some([value; 3]);
    made.assert_is("bypass", all, |x, y| grey(made.sample(x, y)));
    made.assert_is("bls", all, |x, y| grey(made.sample(x, y) - f64::from(BLACK[colour(x, y)])));
    made.assert_is("sdg", all, |x, y| {
        grey(curve(CURVES[PLANES[colour(x, y)]], 4095.0, INTERVALS, 4, made.sample(x, y)))
    });
    made.assert_is("lsc", all, |x, y| {
        let (column, line) = (x as f64 / 40.0, y as f64 / 30.0);
        let gain = lens_gain(colour(x, y), 0, 0) as f64 + 30.0 * column + 20.0 * line;
        grey(made.sample(x, y) * gain / 1024.0)
    });
    made.assert_is("gains", all, |x, y| {
        grey(((f64::from(GAINS[colour(x, y)]) * made.sample(x, y) + 128.0) / 256.0).floor())
    });
    // Gamma out has 10 bits.
    made.assert_is("goc-equidistant", all, |x, y| {
        grey(4.0 * curve(CURVES[0], 1023.0, [8; 16], 0, made.sample(x, y)))
    });
    made.assert_is("goc-logarithmic", all, |x, y| {
        grey(4.0 * curve(CURVES[0], 1023.0, LOGARITHMIC, 0, made.sample(x, y)))
    });
}

/// Blocks whose arithmetic is not published. They change defect pixels alone, or nothing, of a scene that is smooth.
fn filters(made: &Made) {
    // The least and the largest of the pixels of the same colour around a pixel.
    let neighbours = |x: usize, y: usize| {
        let around = window([x - 2, y - 2, 5, 5])
            .filter(|&(at, line)| (at, line) != (x, y) && PLANES[colour(at, line)] == PLANES[colour(x, y)]);
        range(around.map(|(at, line)| made.sample(at, line)))
    };
    // The defect pixels that stand alone: their surroundings are smooth without them.
    let mut lonely = Vec::new();
    for (x, y) in pixels().filter(|&(x, y)| is_inside(x, y)) {
        let own = made.sample(x, y);
        if (own - made.sample(x + 2, y)).abs() < 1200.0 {
            continue;
        }
        let (least, most) = neighbours(x, y);
        if most - least <= 100.0 && (own > most + 1200.0 || own < least - 1200.0) {
            lonely.push((x, y, least, most));
        }
    }
    assert!(lonely.len() >= 8, "{} defects", lonely.len());
    let luma = |value: f64| encode([value / 4.0; 3])[0];
    for (x, y, least, most) in lonely {
        let corrected = made.pictures["dpcc"].luma(x, y);
        let range = luma(least) - 1.0..=luma(most) + 1.0;
        assert!(range.contains(&corrected), "DPCC makes {corrected} at {x}, {y}, not {range:?}");
        let own = luma(made.sample(x, y));
        let weak = made.pictures["dpf-weak"].luma(x, y);
        assert!((weak - own).abs() <= 1.0, "weak DPF makes {weak} of {own} at {x}, {y}");
        let strong = made.pictures["dpf-strong"].luma(x, y);
        let middle = luma((least + most) / 2.0);
        assert!(
            (strong - middle).abs() < (own - middle).abs() / 3.0,
            "strong DPF makes {strong} of {own} at {x}, {y}"
        );
        let (plain, blurred) = (made.pictures["plain"].luma(x, y), made.pictures["flt-blur"].luma(x, y));
        let surroundings = made.pictures["plain"].luma(x + 4, y);
        assert!(
            (blurred - surroundings).abs() < (plain - surroundings).abs() * 0.9,
            "FLT makes {blurred} of {plain} in {surroundings} at {x}, {y}"
        );
    }
    made.assert_is("dpcc", 10_000, |x, y| made.is_smooth(x, y).then(|| [made.sample(x, y); 3]));
    // A mean of samples lies between the least and the largest of them.
    for (x, y) in compared().filter(|&(x, y)| made.is_smooth(x, y)) {
        let kernel = window([x - 6, y - 4, 13, 9])
            .filter(|&(at, line)| PLANES[colour(at, line)] == PLANES[colour(x, y)]);
        let (least, most) = range(kernel.map(|(at, line)| luma(made.sample(at, line))));
        for name in ["dpf-weak", "dpf-strong"] {
            let found = made.pictures[name].luma(x, y);
            let is_between = (least - 1.0..=most + 1.0).contains(&found);
            assert!(is_between, "{name}: Y at {x}, {y} is {found}, not from {least} to {most}");
        }
    }
    let plain = &made.pictures["plain"];
    let same = |x: usize, y: usize| {
        let [cb, cr] = plain.chroma(x & !1, y);
        [plain.luma(x, y), cb, cr]
    };
    made.assert_coded("flt-through", COMPARED, |x, y| Some(same(x, y)));
    made.assert_coded("flt-blur", 10_000, |x, y| made.is_smooth(x, y).then(|| same(x, y)));
}

/// Blocks of red, green and blue, and of Y'CbCr.
fn picture_blocks(made: &Made) {
    made.assert_is("plain", 10_000, |x, y| made.is_smooth(x, y).then(|| made.rgb(x, y)));
    made.assert_is("ctk", 10_000, |x, y| {
        made.is_smooth(x, y).then(|| {
            let rgb = made.rgb(x, y);
            let row = |row: usize| {
                let terms =
                    MATRIX[row].iter().zip(rgb).map(|(weight, value)| f64::from(*weight) * value / 128.0);
                terms.sum::<f64>() + f64::from(OFFSETS[row])
            };
            [0, 1, 2].map(row)
        })
    });
    let plain = &made.pictures["plain"];
    for (name, contrast, brightness, saturation, degrees) in
        [("cproc", 96.0, 40.0, 192.0, 0.0), ("cproc-hue", 128.0, -60.0, 128.0, 32.0 * 90.0 / 128.0)]
    {
        made.assert_coded(name, COMPARED, |x, y| {
            // Black is 16; a unit of brightness is half a code.
            let luma = (plain.luma(x, y) - 16.0) * contrast / 128.0 + 16.0 + brightness / 2.0;
            let [cb, cr] = plain.chroma(x & !1, y).map(|value| (value - 128.0) * saturation / 128.0);
            let (sine, cosine) = f64::to_radians(degrees).sin_cos();
            let chroma = [cb * cosine + cr * sine, cr * cosine - cb * sine];
            let [cb, cr] = chroma.map(|value| (value + 128.0).clamp(16.0, 240.0));
            Some([luma.clamp(16.0, 235.0), cb, cr])
        });
    }
}

/// Image effects, which change the picture without one.
fn effects(made: &Made) {
    let (plain, all) = (&made.pictures["plain"], COMPARED);
    made.assert_coded("ie-bw", all, |x, y| Some([plain.luma(x, y), 128.0, 128.0]));
    made.assert_coded("ie-negative", all, |x, y| {
        let [cb, cr] = plain.chroma(x & !1, y);
        Some([251.0 - plain.luma(x, y), 256.0 - cb, 256.0 - cr])
    });
    made.assert_coded("ie-tint", all, |x, y| Some([plain.luma(x, y), 128.0 + 32.0, 128.0 - 16.0]));
    made.assert_coded("ie-sepia", all, |x, y| Some([plain.luma(x, y), 128.0 + 32.0, 128.0 - 16.0]));
    // The pixels of a pair have the chroma of the first one. Rounding decides about those near the threshold.
    let threshold = f64::from(SELECTION_THRESHOLD);
    let is_selected = |x: usize, y: usize| {
        let [cb, cr] = plain.chroma(x & !1, y);
        let [red, green, blue] = decode([plain.luma(x & !1, y), cb, cr]);
        let is_sure = [red, green, blue].iter().all(|value| (value - threshold).abs() > 1.0);
        is_sure.then_some(red > threshold && green > threshold && blue <= threshold)
    };
    for wanted in [false, true] {
        let count = compared().filter(|&(x, y)| is_selected(x, y) == Some(wanted)).count();
        assert!(count >= 5_000, "{count} pixels with {wanted}");
    }
    made.assert_coded("ie-select", 20_000, |x, y| {
        let [cb, cr] = if is_selected(x, y)? { plain.chroma(x & !1, y) } else { [128.0; 2] };
        Some([plain.luma(x, y), cb, cr])
    });
    let edge =
        |x: usize, y: usize| (1..WIDTH - 1).contains(&x).then(|| plain.luma(x + 1, y) - plain.luma(x - 1, y));
    let inside = all - 2 * HEIGHT / 5;
    made.assert_coded("ie-emboss", inside, |x, y| {
        edge(x, y).map(|edge| [(128.0 + edge).clamp(0.0, 255.0), 128.0, 128.0])
    });
    made.assert_coded("ie-sketch", inside, |x, y| {
        edge(x, y).map(|edge| [(235.0 - edge.abs()).max(0.0), 128.0, 128.0])
    });
}

/// Demosaicing with the least and the largest threshold, which has the unit of a sample of 10 bits.
fn demosaicing(made: &Made) {
    let expected = |x: usize, y: usize, threshold: f64| {
        is_inside(x, y).then(|| made.demosaiced(x, y, threshold)).flatten()
    };
    let thresholds = [("bdm-always", 0.0), ("bdm-hardly", 4.0 * 255.0)];
    for (name, threshold) in thresholds {
        made.assert_is(name, COMPARED * 9 / 10, |x, y| expected(x, y, threshold));
    }
    let different = compared().filter(|&(x, y)| {
        let [always, hardly] = thresholds.map(|(_, threshold)| expected(x, y, threshold));
        always.zip(hardly).is_some_and(|(a, b)| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 100.0))
    });
    assert!(different.count() >= 20);
}

/// The pixels of a window.
fn window([left, top, width, height]: [usize; 4]) -> impl Iterator<Item = (usize, usize)> + Clone {
    (top..top + height).flat_map(move |y| (left..left + width).map(move |x| (x, y)))
}

/// The pixels of a cell.
fn cell(index: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let [left, top] = [0, 1].map(|axis| CORNER[axis] + CELL[axis] * [index % 5, index / 5][axis]);
    window([left, top, CELL[0], CELL[1]])
}

/// Asserts that a measurement is within a code of what it should be.
#[track_caller]
fn assert_near(name: &str, found: f64, exact: f64) {
    assert!((found - exact).abs() <= 1.0, "{name} is {found}, not {exact}");
}

/// Whether the histogram counts a pixel, with this step.
fn is_counted(x: usize, y: usize, step: usize) -> bool {
    (x - CORNER[0]).is_multiple_of(step) && (y - CORNER[1]).is_multiple_of(step)
}

/// The bin of a value in units of a bin.
fn bin(value: f64) -> usize {
    (0..16).rfind(|&bin| f64::from(bin) <= value).map_or(0, |bin| bin as usize)
}

/// Exposure and histogram of cells, and focus, of grey pixels.
fn cells(made: &Made) {
    let found = &made.statistics["cells"];
    assert_eq!(found["types"], [14.0], "exposure, focus and histogram");
    for (index, &mean_of) in found["exposure"].iter().enumerate() {
        assert_near(
            "exposure",
            mean_of,
            mean(cell(index).map(|(x, y)| 3.0 * made.code(x, y) * 85.0 / 256.0)),
        );
    }
    for (of, [sharpness, luminance]) in FOCUS.into_iter().zip(found["focus"].as_chunks::<2>().0) {
        // Sums of luminance are shifted right by 4 bits.
        let pixels = (of[2] * of[3]) as f64;
        assert_near("luminance", luminance * 16.0 / pixels, mean(window(of).map(|(x, y)| made.code(x, y))));
        assert!(*sharpness > 0.0);
    }
    // Each fourth pixel, and its cell's weight in units of 1/16.
    let mut bins = vec![0.0; 16];
    for index in 0..25 {
        for (x, y) in cell(index as usize).filter(|&(x, y)| is_counted(x, y, 4)) {
            bins[bin(made.sample(x, y) / 256.0)] += f64::from(weight(index));
        }
    }
    assert_eq!(found["histogram"], bins);
}

/// The other measurements.
fn measurements(made: &Made) {
    let luma = &made.statistics["luma"];
    assert_eq!(luma["types"], [10.0], "exposure and histogram");
    for (index, &found) in luma["exposure"].iter().enumerate() {
        let plane = |plane: usize| {
            mean(cell(index).filter(|&(x, y)| PLANES[colour(x, y)] == plane).map(|(x, y)| made.code(x, y)))
        };
        assert_near("luminance", found, 16.0 + 0.25 * plane(0) + 0.5 * plane(1) + 0.1094 * plane(2));
    }
    let mut bins = vec![0.0; 16];
    let whole = window([CORNER[0], CORNER[1], 5 * CELL[0], 5 * CELL[1]]);
    for (x, y) in whole.filter(|&(x, y)| is_counted(x, y, 3)) {
        bins[bin(made.pictures["luma"].luma(x, y) / 16.0)] += 16.0;
    }
    assert_eq!(luma["histogram"], bins);
    for name in ["white-rgb", "white-ycbcr"] {
        assert_eq!(made.statistics[name]["types"], [1.0], "white balance");
    }
    // All pixels are grey, and those count that are not above the least of the limits, which is that of blue.
    let limit = f64::from(WHITE_REFERENCE[0]);
    let dark = || pixels().map(|(x, y)| made.code(x, y).floor()).filter(|&code| code <= limit);
    let [count, green, blue, red] = made.statistics["white-rgb"]["white"][..] else { panic!("four numbers") };
    assert_eq!(count, dark().count() as f64);
    for (name, found) in [("green", green), ("blue", blue), ("red", red)] {
        assert_near(name, found, mean(dark()));
    }
    let luma = |x: usize, y: usize| 16.0 + (0.25 + 0.5 + 0.1094) * made.code(x, y);
    let bright = |least: f64| pixels().map(|(x, y)| luma(x, y)).filter(move |&luma| luma > least);
    let [count, y, cb, cr] = made.statistics["white-ycbcr"]["white"][..] else { panic!("four numbers") };
    // Rounding decides about those near the limit.
    let [least, most] = [61.5, 59.5].map(|limit| bright(limit).count() as f64);
    assert!((least..=most).contains(&count) && count > 1000.0, "{count} not from {least} to {most}");
    assert_near("Y", y, mean(bright(60.5)));
    assert_near("Cb", cb, 128.0);
    assert_near("Cr", cr, 128.0);
    // The mean of the first samples of each colour, which is subtracted from the next frame.
    let black = [0, 1, 2, 3].map(|of| {
        let samples = pixels().filter(|&(x, y)| colour(x, y) == of).take(1 << BLACK_SAMPLES);
        mean(samples.map(|(x, y)| made.sample(x, y)))
    });
    for (found, exact) in made.statistics["measured"]["black"].iter().zip(black) {
        assert_near("black level", *found, exact);
    }
    made.assert_is("measured-next", COMPARED, |x, y| Some([made.sample(x, y) - black[colour(x, y)]; 3]));
}

/// The measurement of white in a coloured picture, after the gains: Y, Cb and Cr in units of 1/64, which are rounded, or green, blue and red.
fn coloured_white(made: &Made) {
    let gained =
        |x: usize, y: usize| (f64::from(WHITE_GAINS[colour(x, y)]) * made.sample(x, y) / 256.0).min(4095.0);
    let [mut ycbcr, mut rgb] = [(); 2].map(|()| Vec::new());
    for (x, y) in window(WHITE_WINDOW) {
        let [r, g, b] = interpolated(x, y, gained).map(|value| (value / 16.0).floor());
        let row = |weights: [f64; 3]| ((weights[0] * r + weights[1] * g + weights[2] * b) / 64.0).round();
        let [luma, cb, cr] = [
            16.0 + row([16.0, 32.0, 7.0]),
            128.0 + row([-9.0, -19.0, 28.0]),
            128.0 + row([28.0, -24.0, -4.0]),
        ];
        let [least, most, chroma, sum] =
            [WHITE_LUMA[0], WHITE_LUMA[1], WHITE_CHROMA, WHITE_SUM].map(f64::from);
        let [ref_cb, ref_cr] = WHITE_REFERENCE.map(f64::from);
        let is_near = (cb - ref_cb).abs() + (cr - ref_cr).abs() < sum;
        if is_near && luma > least && luma < most && cb > chroma && cr > chroma {
            ycbcr.push([luma, cb, cr]);
        }
        // The limits of green, blue and red are in the registers of the least Y and the references.
        if g <= least && b <= ref_cb && r <= ref_cr {
            rgb.push([g, b, r]);
        }
    }
    for (name, white) in [("coloured-ycbcr", ycbcr), ("coloured-rgb", rgb)] {
        let found = &made.statistics[name];
        assert_eq!(found["types"], [1.0], "white balance");
        let [count, means @ ..] = &found["white"][..] else { panic!("four numbers") };
        // Rounding in the interpolation decides about a few.
        let exact = white.len() as f64;
        assert!(
            (count - exact).abs() <= exact / 50.0 && exact > 10_000.0,
            "{name}: {count} pixels, not {exact}"
        );
        for (index, found) in means.iter().enumerate() {
            assert_near(name, *found, mean(white.iter().map(|values| values[index])));
        }
    }
}
