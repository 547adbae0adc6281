//! Tests with valid and with wrong buffers of parameters.

use proptest::prelude::*;

use super::*;
use media::{isp::MESH, sensor};

/// The elements of a block with the values of `params`.
fn body(kind: BlockType, params: &Params) -> Vec<u16> {
    let none = Box::new([[[1 << 14; 4]; MESH]; MESH]);
    match kind {
        BlockType::BlackLevel => params.black_level.to_vec(),
        BlockType::DefectPixel => vec![params.defect_pixel.threshold, 0, 0, 0],
        BlockType::LensShading => {
            params.lens_shading.as_ref().unwrap_or(&none).as_flattened().as_flattened().to_vec()
        }
        BlockType::AwbRange => [params.awb_range, [0; 2]].concat(),
        BlockType::WhiteBalance => params.white_balance.to_vec(),
        BlockType::ColourMatrix => {
            let all = [params.colour_matrix.as_flattened(), &params.colour_offset].concat();
            all.into_iter().map(i16::cast_unsigned).collect()
        }
        BlockType::ToneCurve => params.tone_curve.points.to_vec(),
        BlockType::Detail => {
            let Detail { threshold, denoise, sharpen, limit } = params.detail;
            vec![threshold, denoise, sharpen, limit]
        }
        BlockType::DigitalGain => vec![params.digital_gain, 0, 0, 0],
    }
}

fn block_of(kind: u16, flags: u16, size: usize, body: &[u16]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
    bytes.extend(u32::try_from(size).unwrap().to_le_bytes());
    bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// A buffer with these blocks, each with its flags.
fn buffer(params: &Params, blocks: &[(usize, u16)]) -> Vec<u8> {
    let blocks = blocks.iter().map(|&(index, flags)| {
        let block = &BLOCKS[index];
        block_of(block.kind as u16, flags, block.size(), &body(block.kind, params))
    });
    with_header(&blocks.flatten().collect::<Vec<u8>>())
}

fn with_header(data: &[u8]) -> Vec<u8> {
    let size = u32::try_from(data.len()).unwrap();
    [&PARAMS_VERSION.to_le_bytes()[..], &size.to_le_bytes(), data].concat()
}

fn defaults() -> Params {
    Params::default_for(&sensor::colour(), [640, 480])
}

const ALL: [(usize, u16); 9] = [(8, 0), (7, 0), (6, 0), (5, 0), (4, 0), (3, 0), (2, 0), (1, 0), (0, 0)];

#[test]
fn all_blocks_fill_the_largest_buffer() {
    assert_eq!(buffer(&defaults(), &ALL).len(), PARAMS_MAX);
}

#[test]
fn a_block_is_in_force_until_another_comes() {
    let mut overrides = Overrides::default();
    let mut params = defaults();
    overrides.apply(&mut params);
    assert_eq!(params, defaults(), "nothing was set");

    let first = Params { white_balance: [1, 2, 3, 4], black_level: [5; 4], ..defaults() };
    assert!(overrides.white_balance.is_none());
    assert_eq!(take(&mut overrides, &buffer(&first, &[(4, FLAG_ENABLE)])), Ok(24));
    assert!(overrides.white_balance.is_some());
    let second = Params { white_balance: [9; 4], black_level: [6; 4], ..defaults() };
    assert_eq!(take(&mut overrides, &buffer(&second, &[(0, 0)])), Ok(24));
    overrides.apply(&mut params);
    assert_eq!(params, Params { white_balance: [1, 2, 3, 4], black_level: [6; 4], ..defaults() });

    // The shortest buffer says nothing; version 0 is the same as 1.
    assert_eq!(take(&mut overrides, &[0; 8]), Ok(8));
    overrides.apply(&mut params);
    assert_eq!(params.white_balance, [1, 2, 3, 4]);
}

#[test]
fn what_is_disabled_does_nothing() {
    let neutral = Params { encoding: defaults().encoding, ..Params::neutral() };
    let bare = |index: usize| block_of(BLOCKS[index].kind as u16, FLAG_DISABLE, HEADER, &[]);
    let short = with_header(&(0..9).flat_map(bare).collect::<Vec<u8>>());
    let whole =
        buffer(&Params { black_level: [u16::MAX; 4], ..defaults() }, &ALL.map(|(i, _)| (i, FLAG_DISABLE)));
    for bytes in [short, whole] {
        let (mut overrides, mut params) = (Overrides::default(), defaults());
        take(&mut overrides, &bytes).unwrap();
        overrides.apply(&mut params);
        assert_eq!(params, neutral);
    }
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    use ParamsFault as Fault;
    let good = buffer(&defaults(), &[(4, 0), (0, 0), (1, 0)]);
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let cut = |data_size: u32| [&1_u32.to_le_bytes()[..], &data_size.to_le_bytes(), &good[8..]].concat();
    let two = buffer(&defaults(), &[(4, 0), (4, 0)]);
    let disabled = |size: usize| with_header(&block_of(5, FLAG_DISABLE, size, &[0; 2]));
    for (what, bytes, reason, kind, block, offset) in [
        ("nothing", vec![], Fault::DATA_SIZE, 0, 0, 0),
        ("half a header", vec![0; 7], Fault::DATA_SIZE, 0, 0, 4),
        ("version 2", with(0, &[2]), Fault::VERSION, 0, 0, 0),
        ("more than the buffer", cut(49), Fault::DATA_SIZE, 0, 0, 4),
        ("as much as can be said", cut(u32::MAX), Fault::DATA_SIZE, 0, 0, 4),
        ("half a block's header", cut(20), Fault::TRUNCATED, 0, 24, 24),
        ("half a block", cut(31), Fault::TRUNCATED, 1, 24, 28),
        ("type 0", with(8, &[0]), Fault::TYPE, 0, 8, 8),
        ("type 10", with(24, &[10]), Fault::TYPE, 10, 24, 24),
        ("a flag that is reserved", with(26, &[4]), Fault::FLAGS, 1, 24, 26),
        ("both flags", with(26, &[3]), Fault::FLAGS, 1, 24, 26),
        ("a size that is too large", with(12, &[24]), Fault::SIZE, 5, 8, 12),
        ("a size that is not aligned", with(12, &[15]), Fault::SIZE, 5, 8, 12),
        ("a size of 0", with(12, &[0]), Fault::SIZE, 5, 8, 12),
        ("disabled, and neither long nor short", disabled(12), Fault::SIZE, 5, 8, 12),
        ("a second block", two, Fault::DUPLICATE, 5, 24, 24),
        ("a level of more than 14 bits", with(38, &[0, 0x40]), Fault::RANGE, 1, 24, 38),
        ("what is reserved", with(54, &[1]), Fault::RANGE, 2, 40, 54),
    ] {
        let mut overrides = Overrides::default();
        assert_eq!(take(&mut overrides, &bytes), Err(Fault { reason, kind, block, offset }), "{what}");
        let mut params = defaults();
        overrides.apply(&mut params);
        assert!(params == defaults() && overrides.white_balance.is_none(), "{what} changed something");
    }
    assert_eq!(take(&mut Overrides::default(), &good), Ok(good.len()));
    let too_long = with_header(&[&good[8..], &vec![0; PARAMS_MAX]].concat());
    assert_eq!(take(&mut Overrides::default(), &too_long).unwrap_err().reason, Fault::DATA_SIZE);
}

#[test]
fn each_range_of_each_field_is_kept() {
    for (index, block) in BLOCKS.iter().enumerate() {
        let mut at = 2 * HEADER;
        for field in block.body.fields {
            let [least, most] = field.range;
            let is_signed = matches!(field.kind, Kind::I16);
            let [bottom, top] = if is_signed { [-0x8000, 0x7fff] } else { [0, 0xffff] };
            let last = at + field.size() - 2;
            for value in [least, most, least - 1, most + 1].into_iter().filter(|v| (bottom..=top).contains(v))
            {
                let mut bytes = buffer(&defaults(), &[(index, 0)]);
                bytes[last..last + 2].copy_from_slice(&value.to_le_bytes()[..2]);
                let taken = take(&mut Overrides::default(), &bytes)
                    .map_err(|fault| (fault.reason, fault.offset as usize));
                let expected = if (least..=most).contains(&value) {
                    Ok(bytes.len())
                } else {
                    Err((ParamsFault::RANGE, last))
                };
                assert_eq!(taken, expected, "{} {}: {value}", block.name, field.name);
            }
            at += field.size();
        }
    }
}

/// A block with valid values.
fn any_block() -> impl Strategy<Value = (usize, Vec<u16>)> {
    (0..BLOCKS.len()).prop_flat_map(|index| {
        let elements = BLOCKS[index].body.fields.iter().flat_map(|field| {
            let [least, most] = field.range;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the lower half is meant"
            )]
            let element = (least..=most).prop_map(|value| value as u16);
            std::iter::repeat_n(element, field.count())
        });
        (Just(index), elements.collect::<Vec<_>>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_down_is_read_again_and_an_isp_takes_it(blocks in prop::collection::vec(any_block(), 0..6)) {
        let mut blocks = blocks;
        blocks.sort_by_key(|(index, _)| *index);
        blocks.dedup_by_key(|(index, _)| *index);
        let written = blocks.iter().flat_map(|(index, body)| {
            block_of(BLOCKS[*index].kind as u16, 0, BLOCKS[*index].size(), body)
        });
        let bytes = with_header(&written.collect::<Vec<u8>>());
        let mut overrides = Overrides::default();
        prop_assert_eq!(take(&mut overrides, &bytes), Ok(bytes.len()));
        let mut params = defaults();
        overrides.apply(&mut params);
        prop_assert_eq!(params.check(), Ok(()));
        for (index, block) in BLOCKS.iter().enumerate() {
            let given = blocks.iter().find(|(given, _)| *given == index);
            let expected = given.map_or_else(|| body(block.kind, &defaults()), |(_, body)| body.clone());
            prop_assert_eq!(body(block.kind, &params), expected, "{}", block.name);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_take_a_part(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        is_good_at_first in any::<bool>(),
    ) {
        if is_good_at_first && bytes.len() >= 2 * HEADER {
            let size = u32::try_from(bytes.len() - HEADER).unwrap();
            bytes[..4].fill(0);
            bytes[4..8].copy_from_slice(&size.to_le_bytes());
            bytes[8] %= 11;
            bytes[9..12].fill(0);
            let known = Block::find(bytes[8].into()).map_or(0, |block| u32::try_from(block.size()).unwrap());
            bytes[12..16].copy_from_slice(&known.to_le_bytes());
        }
        let (mut overrides, mut params) = (Overrides::default(), defaults());
        let taken = take(&mut overrides, &bytes);
        overrides.apply(&mut params);
        prop_assert_eq!(params.check(), Ok(()));
        if taken.is_err() {
            prop_assert_eq!(params, defaults());
        }
    }
}
