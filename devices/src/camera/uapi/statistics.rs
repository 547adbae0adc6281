//! The writer of buffers of statistics.

use super::table::{STATISTICS, STATISTICS_VERSION};
use media::{UsedSettings, isp::Statistics};

/// The number of bytes of a buffer of statistics.
pub const STATISTICS_SIZE: usize = STATISTICS.size();

/// How a frame was made, for the header of its statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::camera) struct Made {
    pub(in crate::camera) sequence: u32,
    /// The sequence number of the frame that took the last parameters, if there was one.
    pub(in crate::camera) params_sequence: Option<u32>,
    /// The start of the frame, in nanoseconds since the sensor started.
    pub(in crate::camera) time: u64,
    /// The settings of the sensor and of the white balance.
    pub(in crate::camera) used: UsedSettings,
}

/// Writes the statistics of a frame into a buffer.
pub(in crate::camera) fn write(made: &Made, statistics: &Statistics, buffer: &mut [u8; STATISTICS_SIZE]) {
    let used = &made.used;
    let mut rest = &mut buffer[..];
    let mut put = |bytes: &[u8]| {
        rest.split_off_mut(..bytes.len())
            .expect("the buffer has the size of the structure")
            .copy_from_slice(bytes);
    };
    let size = u32::try_from(STATISTICS_SIZE).expect("the size fits 32 bits");
    for word in [STATISTICS_VERSION, size, made.sequence, made.params_sequence.unwrap_or(u32::MAX)] {
        put(&word.to_le_bytes());
    }
    put(&made.time.to_le_bytes());
    for word in [used.exposure.time_ns, used.exposure.gain, used.digital_gain, 0] {
        put(&word.to_le_bytes());
    }
    used.white_balance.iter().for_each(|gain| put(&gain.to_le_bytes()));
    statistics.histogram.iter().for_each(|count| put(&count.to_le_bytes()));
    for zone in statistics.zones.as_flattened() {
        let [red, green, blue] = zone.balanced;
        for sum in [zone.luma, red, green, blue, zone.focus] {
            put(&sum.to_le_bytes());
        }
        for count in [zone.quads, zone.balanced_quads, zone.saturated_quads, 0] {
            put(&count.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::table::{Field, Kind, Struct, ZONE},
        *,
    };
    use media::{Exposure, isp::Zone};

    /// Element `index` of a field, at its place in the table.
    fn element(bytes: &[u8], of: &Struct, name: &str, index: usize) -> u64 {
        let before = of.fields.iter().take_while(|field| field.name != name);
        let start: usize = before.map(Field::size).sum();
        let field = of.fields.iter().find(|field| field.name == name).unwrap();
        assert!(!matches!(field.kind, Kind::Struct(_)) && index < field.count());
        let size = field.kind.size();
        let mut value = [0; 8];
        value[..size].copy_from_slice(&bytes[start + index * size..][..size]);
        u64::from_le_bytes(value)
    }

    #[test]
    fn each_field_is_at_its_place_in_the_table() {
        let made = Made {
            sequence: 7,
            params_sequence: Some(5),
            time: 1 << 40,
            used: UsedSettings {
                exposure: Exposure { time_ns: 10_000_000, gain: 512 },
                digital_gain: 300,
                white_balance: [1, 2, 3, 4],
            },
        };
        let mut statistics = Statistics::default();
        statistics.histogram[255] = 9;
        statistics.zones[14][14] = Zone {
            quads: 20,
            luma: 21,
            balanced_quads: 22,
            saturated_quads: 23,
            balanced: [24, 25, 26],
            focus: 1 << 50,
        };
        let mut buffer = [0xa5; STATISTICS_SIZE];
        write(&made, &statistics, &mut buffer);
        for (name, index, value) in [
            ("version", 0, 1),
            ("size", 0, STATISTICS_SIZE as u64),
            ("sequence", 0, 7),
            ("params_sequence", 0, 5),
            ("timestamp", 0, 1 << 40),
            ("exposure", 0, 10_000_000),
            ("analogue_gain", 0, 512),
            ("digital_gain", 0, 300),
            ("reserved", 0, 0),
            ("white_balance", 3, 4),
            ("histogram", 254, 0),
            ("histogram", 255, 9),
        ] {
            assert_eq!(element(&buffer, &STATISTICS, name, index), value, "{name}");
        }
        let zone = &buffer[STATISTICS_SIZE - ZONE.size()..];
        for (name, index, value) in [
            ("luma", 0, 21),
            ("balanced", 0, 24),
            ("balanced", 2, 26),
            ("focus", 0, 1 << 50),
            ("quads", 0, 20),
            ("balanced_quads", 0, 22),
            ("saturated_quads", 0, 23),
            ("reserved", 0, 0),
        ] {
            assert_eq!(element(zone, &ZONE, name, index), value, "{name}");
        }
        write(&Made { params_sequence: None, ..made }, &statistics, &mut buffer);
        assert_eq!(element(&buffer, &STATISTICS, "params_sequence", 0), u64::from(u32::MAX));
    }
}
