//! The statistics of memory that the guest sends (virtio 1.2, section 5.5.6.3).

use tracing::debug;

/// The size of a statistic: a tag of 16 bits, and a value of 64 (struct virtio_balloon_stat).
pub(super) const SIZE: usize = 10;

/// The most statistics that are read of a request. Linux 6.1 sends 10, and Linux 7.2 16.
pub(super) const MOST: usize = 64;

/// The names of the statistics, by tag (VIRTIO_BALLOON_S_*, include/uapi/linux/virtio_balloon.h).
const NAMES: [&str; 16] = [
    "swapped_in",
    "swapped_out",
    "major_faults",
    "minor_faults",
    "free",
    "total",
    "available",
    "caches",
    "huge_pages_allocated",
    "huge_pages_failed",
    "oom_kills",
    "allocation_stalls",
    "asynchronous_scans",
    "direct_scans",
    "asynchronous_reclaims",
    "direct_reclaims",
];

/// The tags of those that only grow and that every Linux sends, for the device's counters.
const GROWING: [u16; 4] = [0, 1, 2, 3];

/// What the guest has sent.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    /// How often.
    pub(super) reports: u64,
    /// The largest value of each of [`GROWING`].
    grown: [u64; GROWING.len()],
}

impl Statistics {
    /// Takes a request of the guest. Tags that are not known are left out, as is a part of a statistic at the end.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.reports += 1;
        let mut shown = String::new();
        for statistic in bytes.chunks_exact(SIZE) {
            let [tag_low, tag_high, value @ ..] = statistic else { continue };
            let tag = u16::from_le_bytes([*tag_low, *tag_high]);
            let Ok(value) = value.try_into().map(u64::from_le_bytes) else { continue };
            if let Some(name) = NAMES.get(usize::from(tag)) {
                shown += &format!(" {name}={value}");
            }
            if let Some(at) = GROWING.iter().position(|growing| *growing == tag) {
                // A hostile guest's numbers may fall; a counter does not.
                self.grown[at] = self.grown[at].max(value);
            }
        }
        debug!("the guest's memory:{shown}");
    }

    /// The values of the counters swapped_in and swapped_out (bytes), major_faults and minor_faults.
    pub(super) fn counters(&self) -> [u64; GROWING.len()] {
        self.grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_only_grow() {
        let statistic = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
        let mut statistics = Statistics::default();
        statistics.take(&[statistic(2, 7), statistic(3, 9), statistic(99, 1), statistic(4, 5)].concat());
        statistics.take(&[statistic(2, 6), statistic(0, 4), vec![3; 9]].concat());
        assert_eq!((statistics.reports, statistics.counters()), (2, [4, 0, 7, 9]));
    }
}
