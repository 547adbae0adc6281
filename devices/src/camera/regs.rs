//! The camera's registers: the one table from which the emulator, the driver's C header and the reference page come.
//!
#![doc = include_str!("regs.md")]

use crate::{
    media::{FORMATS, Format, LARGEST_FRAME, Pattern, SMALLEST_FRAME},
    register_table::{Constant, Register, constants, constants_page, registers, registers_page},
};

registers! {
    ID = 0x000, Ro, ID_VALUE, "Always ID_VALUE.";
    VERSION = 0x004, Ro, VERSION_VALUE, "Version of this register map: major in bits 31:16, minor in 15:0.";
    CAPS = 0x008, Ro, 0, "Bits 3:0 number of channels, 7:4 planes of a channel, 15:8 address lines (DMA mask), and CAPS_* bits; set by the machine.";
    SIZE_MIN = 0x00c, Ro, SIZE_MIN_VALUE, "Smallest frame: width in bits 15:0, height in 31:16, in pixels.";
    SIZE_MAX = 0x010, Ro, SIZE_MAX_VALUE, "Largest frame, as SIZE_MIN. Widths and heights are even.";
    CTRL = 0x014, Rw, 0, "CTRL_* bits.";
    STATUS = 0x018, Ro, 0, "STATUS_* bits.";
    TIMING = 0x01c, Ro, 0, "TIMING_* bits; set by the machine.";
    IRQ_RAW = 0x020, Ro, 0, "IRQ_* events that happened and were not acknowledged.";
    IRQ_ENABLE = 0x024, Rw, 0, "IRQ_* events that raise the interrupt.";
    IRQ_STATUS = 0x028, W1c, 0, "IRQ_RAW and IRQ_ENABLE; writing 1 clears the event, also in IRQ_RAW.";
    ERR_ADDR_LO = 0x030, Ro, 0, "First address that the DMA port refused, bits 31:0; held until IRQ_BUS_ERROR is acknowledged.";
    ERR_ADDR_HI = 0x034, Ro, 0, "The same, bits 63:32.";
    ERR_INFO = 0x038, Ro, 0, "Plane in bits 7:0, channel in 15:8, of the address in ERR_ADDR.";
    FRAME_INTERVAL = 0x040, Rw, 33_333, "Frame clock's period in microseconds, clamped to FRAME_INTERVAL_MIN..FRAME_INTERVAL_MAX; reset value set by the machine. With a sensor it is that of SENSOR_LINE_LENGTH and SENSOR_FRAME_LENGTH, and a write changes the latter.";
    PATTERN = 0x044, Rw, 0, "PATTERN_* scene that the sensor looks at, from the next frame on; reset value set by the machine.";
    FLIP = 0x048, Rw, 0, "FLIP_* bits: how the sensor is read out, from the next frame on. The order of colour filters stays the format's.";
    FRAME_SEQUENCE = 0x04c, Ro, 0, "Sequence number of the frame that began last; see IRQ_FRAME_START.";
    SENSOR_LINE_LENGTH = 0x050, Rw, SENSOR_LINE_LENGTH_MIN, "Pixels of a line of the sensor, blanking included; clamped to SENSOR_LINE_LENGTH_*. All SENSOR_* registers read as zero if there is no sensor.";
    SENSOR_FRAME_LENGTH = 0x054, Rw, 4500, "Lines of a frame of the sensor, blanking included; clamped to SENSOR_FRAME_LENGTH_*; reset value set by the machine.";
    SENSOR_EXPOSURE = 0x058, Rw, SENSOR_EXPOSURE_RESET, "Lines that a frame is exposed, from the next frame on: at most SENSOR_FRAME_LENGTH less SENSOR_EXPOSURE_MARGIN of them count, and no more than 4.29 seconds.";
    SENSOR_ANALOGUE_GAIN = 0x05c, Rw, SENSOR_GAIN_ONE, "Gain before the step to whole numbers, in units of 1/SENSOR_GAIN_ONE, up to SENSOR_ANALOGUE_GAIN_MAX, from the next frame on.";
    SENSOR_DIGITAL_GAIN = 0x060, Rw, SENSOR_GAIN_ONE, "The same after it, up to SENSOR_DIGITAL_GAIN_MAX.";
    SENSOR_BINNING = 0x064, Rw, 1, "Pixels of one colour in each direction that make one of those which the sensor puts out, from the next frame on: 1, 2 or 4. Other values count as the next smaller one, and so does what takes more pixels than the array has, which is as large as SIZE_MAX.";
    FRAMES = 0x0c0, Ro, 0, "Frames written since reset, by channels 0 and 1; wraps, as all counters do.";
    DROPS = 0x0c4, Ro, 0, "Frames dropped since reset, by channels 0 and 1, for whatever reason.";
    OVERFLOWS = 0x0c8, Ro, 0, "Line buffer overflows since reset.";
    BUS_ERRORS = 0x0cc, Ro, 0, "Bus errors since reset.";
    SYNC_LOSSES = 0x0d0, Ro, 0, "Losses of the sensor link since reset.";
    CONFIG_ERRORS = 0x0d4, Ro, 0, "Configurations refused since reset.";
    IRQS = 0x0d8, Ro, 0, "Interrupt edges raised since reset.";
    IRQS_LATE = 0x0dc, Ro, 0, "Ticks of the frame clock that found a frame held back, as the one before was not acknowledged, since reset.";
    CH_FORMAT = 0x100, Rw, 0, "V4L2 fourcc of the next frame: channel 0 has the processed formats, channel 1 the Bayer ones, channels 2 and 3 metadata.";
    CH_SIZE = 0x104, Rw, 0, "Size of the next frame: width in bits 15:0, height in 31:16, in pixels.";
    CH_STRIDE0 = 0x108, Rw, 0, "Bytes from line to line in plane 0.";
    CH_STRIDE1 = 0x10c, Rw, 0, "The same for plane 1.";
    CH_STRIDE2 = 0x110, Rw, 0, "The same for plane 2.";
    CH_ADDR0_LO = 0x118, Rw, 0, "Address of plane 0, bits 31:0.";
    CH_ADDR0_HI = 0x11c, Rw, 0, "The same, bits 63:32.";
    CH_ADDR1_LO = 0x120, Rw, 0, "Address of plane 1, bits 31:0.";
    CH_ADDR1_HI = 0x124, Rw, 0, "The same, bits 63:32.";
    CH_ADDR2_LO = 0x128, Rw, 0, "Address of plane 2, bits 31:0.";
    CH_ADDR2_HI = 0x12c, Rw, 0, "The same, bits 63:32.";
    CH_LEN0 = 0x130, Rw, 0, "Bytes that plane 0 may take: nothing is written beyond. Of channel 3 those that the parameters take.";
    CH_LEN1 = 0x134, Rw, 0, "The same for plane 1.";
    CH_LEN2 = 0x138, Rw, 0, "The same for plane 2.";
    CH_COMMIT = 0x13c, Wo, 0, "Writing 1 makes CH_FORMAT to CH_LEN2, and CH_INPUT_SIZE to CH_CROP_SIZE, the pending configuration.";
    CH_INPUT_SIZE = 0x140, Rw, 0, "Of channel 0, and only with CAPS_ISP: size of what the sensor puts out for the next frame, as CH_SIZE and within the same limits; 0: that of the frame.";
    CH_CROP_POSITION = 0x144, Rw, 0, "Of channel 0, and only with CAPS_ISP: where in that the part begins of which the next frame is made: columns left of it in bits 15:0, lines above it in 31:16, even.";
    CH_CROP_SIZE = 0x148, Rw, 0, "Size of that part, as CH_SIZE, even and not smaller than the frame, to which it is scaled; 0: all that the sensor puts out, whatever CH_CROP_POSITION is.";
    CH_DONE_ADDR_LO = 0x180, Ro, 0, "Address of plane 0 of the last frame written, bits 31:0; CH_DONE_* hold until IRQ_DONE is acknowledged.";
    CH_DONE_ADDR_HI = 0x184, Ro, 0, "The same, bits 63:32.";
    CH_DONE_BYTES = 0x188, Ro, 0, "Bytes of that frame in all planes, from the first to the last written, padding of lines included.";
    CH_DONE_SEQUENCE = 0x18c, Ro, 0, "Its sequence number: 0 for the first frame after the sensor started, dropped frames counted.";
    CH_DONE_TIME_LO = 0x190, Ro, 0, "Its start of frame, in nanoseconds since the sensor started, bits 31:0.";
    CH_DONE_TIME_HI = 0x194, Ro, 0, "The same, bits 63:32.";
    CH_DONE_ERROR = 0x198, Ro, 0, "Of channel 3: what was wrong with the parameters. Type of the block in bits 15:0, reason (PARAMS_ERROR_*) in 31:16; 0: they were taken.";
    CH_DONE_ERROR_BLOCK = 0x19c, Ro, 0, "Where in the buffer that block begins, in bytes.";
    CH_DONE_ERROR_OFFSET = 0x1a0, Ro, 0, "Where in the buffer the field begins that was wrong, in bytes.";
    CH_FRAMES = 0x1c0, Ro, 0, "Frames, or buffers of metadata, that this channel transferred since reset.";
    CH_DROPS = 0x1c4, Ro, 0, "Frames, or buffers of metadata, that this channel dropped since reset, for whatever reason.";
}

#[expect(clippy::cast_possible_truncation, reason = "there are seven")]
const PATTERNS: u32 = Pattern::COUNT as u32;

constants! {
    ID_VALUE = 0x4d56_434d, "ID: \"MCVM\" in memory order.";
    VERSION_VALUE = 0x0002_0002, "VERSION: 2.2.";
    CHANNELS = 4, "Number of channels.";
    CHANNEL_PROCESSED = 0, "The channel of the processed frames.";
    CHANNEL_RAW = 1, "The channel of the sensor's raw frames.";
    CHANNEL_STATISTICS = 2, "The channel of the ISP's statistics.";
    CHANNEL_PARAMS = 3, "The channel of the ISP's parameters.";
    CHANNEL_SPACING = 0x100, "Bytes from a register of a channel to the same of the next.";
    SIZE_MIN_VALUE = SMALLEST_FRAME[1] << 16 | SMALLEST_FRAME[0], "SIZE_MIN: 160x120.";
    SIZE_MAX_VALUE = LARGEST_FRAME[1] << 16 | LARGEST_FRAME[0], "SIZE_MAX: 3840x2160.";
    CAPS_SENSOR = 1 << 16, "There is a sensor, and the SENSOR_* registers.";
    CAPS_ISP = 1 << 17, "There is an ISP, and channels 2 and 3 can be enabled.";
    CAPS_AUTO = 1 << 18, "The device itself sets SENSOR_EXPOSURE and SENSOR_ANALOGUE_GAIN, by each processed frame; a driver's writes to these are dropped.";
    CTRL_ENABLE = 1 << 0, "The channel streams while set. Channel n: n bits further up.";
    CTRL_RESET = 1 << 31, "Write 1 to reset; reads as zero.";
    STATUS_STREAMING = 1 << 0, "The channel streams, or has not yet stopped. Channel n: n bits further up.";
    STATUS_ACTIVE = 1 << 4, "The channel's frame is in work. Channel n: n bits further up.";
    STATUS_PENDING = 1 << 8, "The channel's committed configuration waits for the start of a frame. Channel n: n bits further up.";
    TIMING_STALL = 1 << 0, "A frame begins when there are buffers for it, not by the frame clock.";
    IRQ_FRAME_START = 1 << 0, "A frame begins; see FRAME_SEQUENCE.";
    IRQ_OVERFLOW = 1 << 8, "The line buffer overflowed.";
    IRQ_CONFIG_ERROR = 1 << 9, "Format not the channel's, bad size, stride or length too small: see the frame's configuration.";
    IRQ_BUS_ERROR = 1 << 10, "The DMA port refused an address; see ERR_ADDR.";
    IRQ_SYNC_LOSS = 1 << 11, "The sensor link was lost.";
    IRQ_UNDERRUN = 1 << 12, "The frame clock ticked and a channel could not begin a frame: none pending, or one held back.";
    IRQ_PARAMS_ERROR = 1 << 13, "With the IRQ_DONE of channel 3: the parameters were wrong; see CH_DONE_ERROR.";
    IRQ_DONE = 1 << 16, "The channel's frame was written, or its buffer of metadata transferred; see CH_DONE_*. Channel n: n bits further up.";
    IRQ_LATCHED = 1 << 20, "The channel's pending configuration became the active one: the next may be programmed. Channel n: n bits further up.";
    IRQ_STOPPED = 1 << 24, "The channel has stopped. Channel n: n bits further up.";
    FRAME_INTERVAL_MIN = 1_000, "1000 frames a second.";
    FRAME_INTERVAL_MAX = 10_000_000, "A frame in ten seconds.";
    PATTERN_BARS = Pattern::Bars as u32, "Colour bars.";
    PATTERN_GRADIENT = Pattern::Gradient as u32, "Gradients of red, green and blue.";
    PATTERN_CHECKER = Pattern::Checker as u32, "Checkerboard.";
    PATTERN_BOX = Pattern::Box as u32, "A box that moves over a grey field.";
    PATTERN_ZONE_PLATE = Pattern::ZonePlate as u32, "Zone plate.";
    PATTERN_NOISE = Pattern::Noise as u32, "Noise from the machine's seed.";
    PATTERN_FLAT = Pattern::Flat as u32, "A flat grey field.";
    PATTERN_COUNT = PATTERNS, "Number of patterns.";
    FLIP_HORIZONTAL = 1 << 0, "Left and right are exchanged.";
    FLIP_VERTICAL = 1 << 1, "Top and bottom are exchanged.";
    SENSOR_PIXEL_RATE = 594_000_000, "Pixels of the sensor in a second, blanking included. A frame takes SENSOR_LINE_LENGTH * SENSOR_FRAME_LENGTH of them.";
    SENSOR_LINK_FREQ = 891_000_000, "Hertz of the sensor's link, as four lanes with two bits a period carry 12 bits a pixel.";
    SENSOR_LINE_LENGTH_MIN = 4_400, "Least SENSOR_LINE_LENGTH, and its reset value: how long the conversion of a line takes, whatever its width.";
    SENSOR_LINE_LENGTH_MAX = 65_535, "Largest SENSOR_LINE_LENGTH.";
    SENSOR_FRAME_LENGTH_MIN = 165, "Least SENSOR_FRAME_LENGTH: the lines of the smallest frame, and SENSOR_BLANK_LINES_MIN.";
    SENSOR_FRAME_LENGTH_MAX = 2_097_151, "Largest SENSOR_FRAME_LENGTH.";
    SENSOR_BLANK_LINES_MIN = 45, "Lines of a frame that a driver leaves dark, at least.";
    SENSOR_EXPOSURE_MIN = 1, "Shortest exposure, in lines.";
    SENSOR_EXPOSURE_RESET = 1_350, "SENSOR_EXPOSURE after a reset: 10 ms of lines of SENSOR_LINE_LENGTH_MIN.";
    SENSOR_EXPOSURE_MARGIN = 8, "Lines of a frame that cannot be exposed.";
    SENSOR_BINNING_MAX = 4, "Largest SENSOR_BINNING.";
    SENSOR_GAIN_ONE = 256, "A gain of 1.";
    SENSOR_ANALOGUE_GAIN_MAX = 4_096, "A gain of 16.";
    SENSOR_DIGITAL_GAIN_MAX = 4_095, "A gain of nearly 16.";
    MAPPED_SIZE = 0x1000, "Size of the register range, in bytes.";
}

/// The channel that writes frames of `format`.
pub fn channel_of_format(format: &Format) -> u32 {
    if format.is_raw() { CHANNEL_RAW } else { CHANNEL_PROCESSED }
}

/// The register of `channel` that corresponds to `register` of channel 0.
pub const fn of_channel(register: u32, channel: u32) -> u32 {
    register + channel * CHANNEL_SPACING
}

/// The low half of a value that two registers hold.
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
pub(super) fn low(value: u64) -> u32 {
    value as u32
}

/// The high half of a value that two registers hold.
pub(super) fn high(value: u64) -> u32 {
    low(value >> 32)
}

/// The table as the C header that the kernel driver includes.
pub fn c_header() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */\n\
         /* Made from devices/src/camera/regs.rs: a test there holds the two equal, and says how to make this anew. */\n\
         #ifndef MINIVMM_CAMERA_REGS_H\n#define MINIVMM_CAMERA_REGS_H\n\n",
    );
    for register in REGISTERS {
        let Register { offset, name, access, meaning, .. } = register;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "/* {access:?}. {meaning} */\n#define MINIVMM_CAM_{name} {offset:#05x}");
    }
    out.push('\n');
    for Constant { name, value, meaning } in CONSTANTS {
        let _ = writeln!(out, "/* {meaning} */\n#define MINIVMM_CAM_{name} {value:#x}");
    }
    out.push_str("\n#endif\n");
    out
}

/// The table, and how a driver uses it, as a page in Markdown.
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# The camera's registers\n\n\
         Made from `devices/src/camera/regs.rs` and `regs.md`: a test there holds them equal, and says how to make this anew.\n\
         In the driver's header each name begins with `MINIVMM_CAM_`.\n\n",
    );
    out += include_str!("regs.md");
    out += &registers_page(REGISTERS);
    out += "\n## Formats\n\n\
            Planes: bytes for so many pixels of a line (the last of which may be missing), and lines of the frame for each\n\
            line of the plane.\n\n\
            | V4L2_PIX_FMT_ | CH_FORMAT | channel | planes |\n|---|---|---|---|\n";
    for format in FORMATS {
        let planes: Vec<String> = format
            .planes
            .iter()
            .map(|plane| format!("{} for {}, and {}", plane.bytes, plane.pixels, plane.subsampling))
            .collect();
        let (name, code, channel) = (format.name, format.fourcc, channel_of_format(format));
        let _ = writeln!(out, "| {name} | {code:#010x} | {channel} | {} |", planes.join("; "));
    }
    out += &constants_page(CONSTANTS);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_table::is_in_file;

    #[test]
    fn the_drivers_header_is_this_table() {
        is_in_file("../guest-images/driver/minivmm-camera-regs.h", &c_header());
    }

    #[test]
    fn the_reference_page_is_this_table() {
        is_in_file("src/camera/REGISTERS.md", &reference());
    }

    #[test]
    fn the_pages_prose_names_what_there_is() {
        let names = || REGISTERS.iter().map(|register| register.name).chain(CONSTANTS.iter().map(|c| c.name));
        for name in include_str!("regs.md").split('`').skip(1).step_by(2) {
            for word in name.split(" & ") {
                let prefix = word.strip_suffix('*').unwrap_or(word);
                let known =
                    names().any(|name| if prefix == word { name == word } else { name.starts_with(prefix) });
                assert!(known, "there is no {word}");
            }
        }
    }

    #[test]
    fn offsets_are_aligned_ascending_and_inside_the_range() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(REGISTERS.iter().all(|register| register.offset % 4 == 0));
        assert!(REGISTERS.iter().all(|register| register.offset < CH_FORMAT + CHANNEL_SPACING));
        const { assert!(CH_FORMAT + CHANNELS * CHANNEL_SPACING <= MAPPED_SIZE) };
    }
}
