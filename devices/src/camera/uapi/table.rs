//! The table of the layouts: each structure with its fields, their ranges and meanings, and the constants.

use media::isp::{DIGITAL_GAIN_MAX, MESH, TONE_POINTS, ZONES};

/// `V4L2_META_FMT_MINIVMM_STATS`: `CH_FORMAT` of the statistics.
pub const STATISTICS_FOURCC: u32 = u32::from_le_bytes(*b"MVMS");
/// `V4L2_META_FMT_MINIVMM_PARAMS`: `CH_FORMAT` of the parameters.
pub const PARAMS_FOURCC: u32 = u32::from_le_bytes(*b"MVMP");
/// The version of the layout of statistics.
pub const STATISTICS_VERSION: u32 = 1;
/// The last version of the layout of parameters. Version 0 is the same (`enum v4l2_isp_params_version`).
pub const PARAMS_VERSION: u32 = 1;
/// The number of bytes of the header of a buffer of parameters, and of the header of a block.
pub const HEADER: usize = 8;
/// Switches the stage of a block off (`V4L2_ISP_PARAMS_FL_BLOCK_DISABLE`).
pub const FLAG_DISABLE: u16 = 1 << 0;
/// Sets the stage to the values of the block, as a block without flags does (`V4L2_ISP_PARAMS_FL_BLOCK_ENABLE`).
pub const FLAG_ENABLE: u16 = 1 << 1;

/// The type of an element of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    U16,
    I16,
    U32,
    U64,
    Struct(&'static Struct),
}

/// A field of a [`Struct`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The dimensions of an array. Empty for a single element.
    pub(super) dimensions: &'static [usize],
    /// The smallest and the largest value of an element of a block.
    pub(super) range: [i32; 2],
    /// Its meaning, with units.
    pub(super) meaning: &'static str,
}

/// A structure. Its fields follow each other without gaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Struct {
    /// Its name in C without `struct minivmm_`.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
    pub(super) meaning: &'static str,
}

/// The type of a block of parameters, as a number in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockType {
    BlackLevel = 1,
    DefectPixel = 2,
    LensShading = 3,
    AwbRange = 4,
    WhiteBalance = 5,
    ColourMatrix = 6,
    ToneCurve = 7,
    Detail = 8,
    DigitalGain = 9,
}

/// A block of parameters. All elements of its body have 16 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) kind: BlockType,
    /// The name of the type in C without `MINIVMM_PARAMS_BLOCK_`.
    pub(super) name: &'static str,
    pub(super) body: Struct,
}

const fn field(name: &'static str, kind: Kind, dimensions: &'static [usize], meaning: &'static str) -> Field {
    let range = match kind {
        Kind::I16 => [i16::MIN as i32, i16::MAX as i32],
        _ => [0, u16::MAX as i32],
    };
    Field { name, kind, dimensions, range, meaning }
}

const fn up_to(max: i32, field: Field) -> Field {
    Field { range: [0, max], ..field }
}

const fn reserved(kind: Kind, dimensions: &'static [usize]) -> Field {
    up_to(0, field("reserved", kind, dimensions, "0."))
}

const fn block(
    kind: BlockType,
    name: &'static str,
    c_name: &'static str,
    meaning: &'static str,
    fields: &'static [Field],
) -> Block {
    Block { kind, name, body: Struct { name: c_name, fields, meaning } }
}

/// 14 bits.
const LINEAR: i32 = (1 << 14) - 1;
/// 255 in units of 1/64.
const CODED: i32 = 255 << 6;

/// All blocks of parameters, in the order of their types, which begin with 1.
pub(super) const BLOCKS: [Block; 9] = [
    block(
        BlockType::BlackLevel,
        "BLACK_LEVEL",
        "params_black_level",
        "The first stage subtracts the black level from each sample.",
        &[up_to(LINEAR, field("level", Kind::U16, &[4], "For each channel, in linear values."))],
    ),
    block(
        BlockType::DefectPixel,
        "DEFECT_PIXEL",
        "params_defect_pixel",
        "A sample is a defect if it is above the largest of its eight neighbours of the same colour, or below the smallest, by more than `threshold`. That neighbour replaces it.",
        &[up_to(LINEAR, field("threshold", Kind::U16, &[], "In linear values.")), reserved(Kind::U16, &[3])],
    ),
    block(
        BlockType::LensShading,
        "LENS_SHADING",
        "params_lens_shading",
        "Compensation for lens shading: gains at the points of a mesh, linear between the points. The first and last lines and columns of the mesh lie on the edges of the frame.",
        &[field(
            "gain",
            Kind::U16,
            &[MESH, MESH, 4],
            "Line by line, from left to right, for each channel, in steps of 1/16384.",
        )],
    ),
    block(
        BlockType::AwbRange,
        "AWB_RANGE",
        "params_awb_range",
        "The range for `balanced` in the statistics. A quad counts if all four samples are from `min` to `max`, inclusive.",
        &[
            up_to(LINEAR, field("min", Kind::U16, &[], "In linear values.")),
            up_to(
                LINEAR,
                field(
                    "max",
                    Kind::U16,
                    &[],
                    "In linear values. A quad with a sample above it counts as `saturated`.",
                ),
            ),
            reserved(Kind::U16, &[2]),
        ],
    ),
    block(
        BlockType::WhiteBalance,
        "WHITE_BALANCE",
        "params_white_balance",
        "Gains that multiply the samples.",
        &[field("gain", Kind::U16, &[4], "For each channel, in steps of 1/16384.")],
    ),
    block(
        BlockType::ColourMatrix,
        "COLOUR_MATRIX",
        "params_colour_matrix",
        "Converts the sensor's colours to those of the picture: coefficients, then offsets.",
        &[
            field(
                "coefficient",
                Kind::I16,
                &[3, 3],
                "One row each for red, green and blue of the picture, with the factors of the sensor's red, green and blue, in steps of 1/4096.",
            ),
            field("offset", Kind::I16, &[3], "Added to red, green and blue after that, in linear values."),
        ],
    ),
    block(
        BlockType::ToneCurve,
        "TONE_CURVE",
        "params_tone_curve",
        "The coded value for each linear value: points, with straight lines between them.",
        &[up_to(
            CODED,
            field(
                "point",
                Kind::U16,
                &[TONE_POINTS],
                "In coded values, at the linear values 0 to 512 in steps of 32, up to 2560 in steps of 128, up to 16384 in steps of 512.",
            ),
        )],
    ),
    block(
        BlockType::Detail,
        "DETAIL",
        "params_detail",
        "Noise reduction and sharpening. The difference between a pixel's luma and that of its surroundings counts as noise up to `threshold`, and as detail beyond it.",
        &[
            up_to(CODED, field("threshold", Kind::U16, &[], "In coded values.")),
            up_to(
                0x7fff,
                field(
                    "denoise",
                    Kind::U16,
                    &[],
                    "The part of the noise that is removed, in steps of 1/32768.",
                ),
            ),
            up_to(
                0x7fff,
                field("sharpen", Kind::U16, &[], "The amount of detail that is added, in steps of 1/16384."),
            ),
            up_to(CODED, field("limit", Kind::U16, &[], "The largest change of a pixel, in coded values.")),
        ],
    ),
    block(
        BlockType::DigitalGain,
        "DIGITAL_GAIN",
        "params_digital_gain",
        "Multiplies all colours. The gain is applied to the colour matrix, whose coefficients are limited to 8.",
        &[
            up_to(DIGITAL_GAIN_MAX as i32, field("gain", Kind::U16, &[], "In steps of 1/256.")),
            reserved(Kind::U16, &[3]),
        ],
    ),
];

/// The statistics of a part of the frame.
pub(super) const ZONE: Struct = Struct {
    name: "stats_zone",
    meaning: "The statistics of a zone. A quad is a red, two green and a blue pixel. Its luma is (R + 2 G + B) / 4.",
    fields: &[
        field("luma", Kind::U64, &[], "Sum of the quads' luma, in linear values."),
        field(
            "balanced",
            Kind::U64,
            &[3],
            "Sums over the balanced quads: red, the mean of both greens, blue.",
        ),
        field(
            "focus",
            Kind::U64,
            &[],
            "Sum over the quads: the square of the difference between the luma of the left and of the right neighbour, in steps of 16.",
        ),
        field("quads", Kind::U32, &[], "Number of quads."),
        field(
            "balanced_quads",
            Kind::U32,
            &[],
            "Number of quads whose four samples are in the range of the block AWB_RANGE.",
        ),
        field("saturated_quads", Kind::U32, &[], "Number of quads with a sample above that range."),
        reserved(Kind::U32, &[]),
    ],
};

/// The statistics of a frame.
pub(super) const STATISTICS: Struct = Struct {
    name: "stats_buffer",
    meaning: "Statistics of a frame: the measurements, and the settings that the frame was made with.",
    fields: &[
        field("version", Kind::U32, &[], "MINIVMM_STATS_VERSION."),
        field("size", Kind::U32, &[], "Bytes of this structure."),
        field("sequence", Kind::U32, &[], "Sequence number of the frame, the same as in `CH_DONE_SEQUENCE`."),
        field(
            "params_sequence",
            Kind::U32,
            &[],
            "Sequence number of the first frame made with the parameters in force; all ones if none were accepted since the sensor started.",
        ),
        field("timestamp", Kind::U64, &[], "Start of frame, in nanoseconds since the sensor started."),
        field("exposure", Kind::U32, &[], "Exposure time of the sensor, in nanoseconds."),
        field("analogue_gain", Kind::U32, &[], "The sensor's analogue gain, in steps of 1/256."),
        field("digital_gain", Kind::U32, &[], "The sensor's digital gain, in steps of 1/256."),
        reserved(Kind::U32, &[]),
        field("white_balance", Kind::U16, &[4], "The ISP's gain of each channel, in steps of 1/16384."),
        field("histogram", Kind::U32, &[256], "Number of quads by luma, in steps of 64 linear values."),
        field("zone", Kind::Struct(&ZONE), &[ZONES, ZONES], "The zones of the frame, line by line."),
    ],
};

impl Kind {
    /// The number of bytes of an element.
    pub(super) const fn size(self) -> usize {
        match self {
            Self::U16 | Self::I16 => 2,
            Self::U32 => 4,
            Self::U64 => 8,
            Self::Struct(of) => of.size(),
        }
    }

    pub(super) fn c_name(self) -> String {
        match self {
            Self::U16 => "__u16".into(),
            Self::I16 => "__s16".into(),
            Self::U32 => "__u32".into(),
            Self::U64 => "__u64".into(),
            Self::Struct(of) => format!("struct minivmm_{}", of.name),
        }
    }
}

impl Field {
    /// The number of elements.
    pub(super) const fn count(&self) -> usize {
        let (mut count, mut index) = (1, 0);
        while index < self.dimensions.len() {
            count *= self.dimensions[index];
            index += 1;
        }
        count
    }

    pub(super) const fn size(&self) -> usize {
        self.kind.size() * self.count()
    }

    /// The declarator in C: name and dimensions.
    pub(super) fn declarator(&self) -> String {
        let dimensions: String = self.dimensions.iter().map(|length| format!("[{length}]")).collect();
        format!("{}{dimensions}", self.name)
    }
}

impl Struct {
    /// The size in bytes.
    pub(super) const fn size(&self) -> usize {
        let (mut size, mut index) = (0, 0);
        while index < self.fields.len() {
            size += self.fields[index].size();
            index += 1;
        }
        size
    }
}

impl Block {
    /// The size in bytes, with the header.
    pub(super) const fn size(&self) -> usize {
        HEADER + self.body.size()
    }

    pub(super) fn find(kind: u16) -> Option<&'static Self> {
        BLOCKS.get(usize::from(kind).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_needs_padding() {
        fn check(of: &Struct, start: usize) {
            let mut offset = start;
            for field in of.fields {
                let align = match field.kind {
                    Kind::Struct(part) => {
                        check(part, 0);
                        8
                    }
                    kind => kind.size(),
                };
                assert!(offset.is_multiple_of(align), "{} of {} at {offset}", field.name, of.name);
                offset += field.size();
            }
            assert!(offset.is_multiple_of(8), "{} ends at {offset}", of.name);
        }
        check(&STATISTICS, 0);
        for (block, number) in BLOCKS.iter().zip(1..) {
            check(&block.body, HEADER);
            assert_eq!(block.kind as u16, number);
            assert!(block.body.fields.iter().all(|field| matches!(field.kind, Kind::U16 | Kind::I16)));
        }
    }
}
