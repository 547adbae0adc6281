//! The camera's registers: the table from which the emulator, the driver's C header and the reference page are made.
//!
#![doc = include_str!("regs.md")]

use crate::register_table::{Constant, Register, constants, constants_page, registers, registers_page};
use media::{FORMATS, Format, LARGEST_FRAME, Pattern, SMALLEST_FRAME};

registers! {
    ID = 0x000, Ro, ID_VALUE, "Always ID_VALUE.";
    VERSION = 0x004, Ro, VERSION_VALUE, "Version of this register map: major in bits 31:16, minor in 15:0.";
    CAPS = 0x008, Ro, 0, "Bits 3:0: number of channels; 7:4: planes of a channel; 15:8: address lines (DMA mask); and CAPS_* bits. Set by the machine.";
    SIZE_MIN = 0x00c, Ro, SIZE_MIN_VALUE, "Smallest frame in pixels: width in bits 15:0, height in 31:16.";
    SIZE_MAX = 0x010, Ro, SIZE_MAX_VALUE, "Largest frame, in the format of SIZE_MIN. Widths and heights are even.";
    CTRL = 0x014, Rw, 0, "CTRL_* bits.";
    STATUS = 0x018, Ro, 0, "STATUS_* bits.";
    TIMING = 0x01c, Ro, 0, "TIMING_* bits. Set by the machine.";
    IRQ_RAW = 0x020, Ro, 0, "IRQ_* events that occurred and are not acknowledged.";
    IRQ_ENABLE = 0x024, Rw, 0, "IRQ_* events that signal the interrupt.";
    IRQ_STATUS = 0x028, W1c, 0, "IRQ_RAW and IRQ_ENABLE. Writing 1 acknowledges the event: it clears the bit in IRQ_RAW, whether it is enabled or not.";
    ERR_ADDR_LO = 0x030, Ro, 0, "First address that the DMA port refused, bits 31:0. Valid until IRQ_BUS_ERROR is acknowledged.";
    ERR_ADDR_HI = 0x034, Ro, 0, "Bits 63:32 of that address.";
    ERR_INFO = 0x038, Ro, 0, "Plane (bits 7:0) and channel (15:8) of the address in ERR_ADDR.";
    FRAME_INTERVAL = 0x040, Rw, 33_333, "Period of the frame clock in microseconds, clamped to FRAME_INTERVAL_MIN..FRAME_INTERVAL_MAX. The machine sets the reset value. With a sensor it follows from SENSOR_LINE_LENGTH and SENSOR_FRAME_LENGTH, and a write changes SENSOR_FRAME_LENGTH.";
    PATTERN = 0x044, Rw, 0, "PATTERN_* number of the scene that the sensor looks at, from the next frame on. The machine sets the reset value.";
    FLIP = 0x048, Rw, 0, "FLIP_* bits: the readout direction of the sensor, from the next frame on. The colour filter order stays that of the format.";
    FRAME_SEQUENCE = 0x04c, Ro, 0, "Sequence number of the frame that began last; see IRQ_FRAME_START.";
    SENSOR_LINE_LENGTH = 0x050, Rw, SENSOR_LINE_LENGTH_MIN, "Pixels of a line of the sensor, including blanking; clamped to SENSOR_LINE_LENGTH_*. Without a sensor all SENSOR_* registers read as zero.";
    SENSOR_FRAME_LENGTH = 0x054, Rw, 4500, "Lines of a frame of the sensor, including blanking; clamped to SENSOR_FRAME_LENGTH_*. The machine sets the reset value.";
    SENSOR_EXPOSURE = 0x058, Rw, SENSOR_EXPOSURE_RESET, "Exposure in lines, from the next frame on. The sensor limits it to SENSOR_FRAME_LENGTH - SENSOR_EXPOSURE_MARGIN and to 4.29 seconds.";
    SENSOR_ANALOGUE_GAIN = 0x05c, Rw, SENSOR_GAIN_ONE, "Gain before the conversion to integers, in units of 1/SENSOR_GAIN_ONE, up to SENSOR_ANALOGUE_GAIN_MAX, from the next frame on.";
    SENSOR_DIGITAL_GAIN = 0x060, Rw, SENSOR_GAIN_ONE, "Gain after the conversion, in the same units, up to SENSOR_DIGITAL_GAIN_MAX, from the next frame on.";
    SENSOR_BINNING = 0x064, Rw, 1, "Binning: 1, 2 or 4 pixels of one colour in each direction are combined into one, from the next frame on. Another value counts as the next smaller one. A value that needs more pixels than the array has (SIZE_MAX) is reduced.";
    FRAMES = 0x0c0, Ro, 0, "Frames written by channels 0 and 1 since reset. All counters wrap.";
    DROPS = 0x0c4, Ro, 0, "Frames dropped by channels 0 and 1 since reset, for any reason.";
    OVERFLOWS = 0x0c8, Ro, 0, "Line buffer overflows since reset.";
    BUS_ERRORS = 0x0cc, Ro, 0, "Bus errors since reset.";
    SYNC_LOSSES = 0x0d0, Ro, 0, "Losses of the sensor link since reset.";
    CONFIG_ERRORS = 0x0d4, Ro, 0, "Configurations refused since reset.";
    IRQS = 0x0d8, Ro, 0, "Interrupt edges signalled since reset.";
    IRQS_LATE = 0x0dc, Ro, 0, "Ticks of the frame clock since reset at which a frame waited because the previous one was not acknowledged.";
    CH_FORMAT = 0x100, Rw, 0, "V4L2 fourcc of the next frame. Channel 0 takes the processed formats, channel 1 the Bayer formats, channels 2 and 3 metadata.";
    CH_SIZE = 0x104, Rw, 0, "Size of the next frame in pixels: width in bits 15:0, height in 31:16.";
    CH_STRIDE0 = 0x108, Rw, 0, "Bytes from one line to the next in plane 0.";
    CH_STRIDE1 = 0x10c, Rw, 0, "Bytes from one line to the next in plane 1.";
    CH_STRIDE2 = 0x110, Rw, 0, "Bytes from one line to the next in plane 2.";
    CH_ADDR0_LO = 0x118, Rw, 0, "Address of plane 0, bits 31:0.";
    CH_ADDR0_HI = 0x11c, Rw, 0, "Address of plane 0, bits 63:32.";
    CH_ADDR1_LO = 0x120, Rw, 0, "Address of plane 1, bits 31:0.";
    CH_ADDR1_HI = 0x124, Rw, 0, "Address of plane 1, bits 63:32.";
    CH_ADDR2_LO = 0x128, Rw, 0, "Address of plane 2, bits 31:0.";
    CH_ADDR2_HI = 0x12c, Rw, 0, "Address of plane 2, bits 63:32.";
    CH_LEN0 = 0x130, Rw, 0, "Bytes of the buffer of plane 0. The device writes nothing beyond them. For channel 3: bytes of the buffer of parameters.";
    CH_LEN1 = 0x134, Rw, 0, "Bytes of the buffer of plane 1.";
    CH_LEN2 = 0x138, Rw, 0, "Bytes of the buffer of plane 2.";
    CH_COMMIT = 0x13c, Wo, 0, "Writing 1 copies CH_FORMAT to CH_LEN2 and CH_INPUT_SIZE to CH_CROP_SIZE to the pending configuration.";
    CH_INPUT_SIZE = 0x140, Rw, 0, "Channel 0 with CAPS_ISP only: size of the sensor's output for the next frame, in the format and the limits of CH_SIZE. 0: the size of the frame.";
    CH_CROP_POSITION = 0x144, Rw, 0, "Channel 0 with CAPS_ISP only: position in the sensor's output of the part that the next frame shows: column in bits 15:0, line in 31:16; both even.";
    CH_CROP_SIZE = 0x148, Rw, 0, "Channel 0 with CAPS_ISP only: size of that part, in the format of CH_SIZE, even and not smaller than the frame, to which it is scaled. 0: the sensor's whole output; CH_CROP_POSITION is then ignored.";
    CH_DONE_ADDR_LO = 0x180, Ro, 0, "Address of plane 0 of the last frame written, bits 31:0. CH_DONE_* do not change until IRQ_DONE is acknowledged.";
    CH_DONE_ADDR_HI = 0x184, Ro, 0, "Bits 63:32 of that address.";
    CH_DONE_BYTES = 0x188, Ro, 0, "Bytes of that frame, summed over all planes: from the first to the last byte written, including the padding of lines.";
    CH_DONE_SEQUENCE = 0x18c, Ro, 0, "Sequence number of that frame. The first frame after the start of the sensor has 0. Dropped frames count.";
    CH_DONE_TIME_LO = 0x190, Ro, 0, "Start of that frame, in nanoseconds since the start of the sensor, bits 31:0.";
    CH_DONE_TIME_HI = 0x194, Ro, 0, "Bits 63:32 of that time.";
    CH_DONE_ERROR = 0x198, Ro, 0, "Channel 3 only: the error in the parameters. Type of the block in bits 15:0, reason (PARAMS_ERROR_*) in 31:16. 0: the parameters were accepted.";
    CH_DONE_ERROR_BLOCK = 0x19c, Ro, 0, "Channel 3 only: offset of that block in the buffer, in bytes.";
    CH_DONE_ERROR_OFFSET = 0x1a0, Ro, 0, "Channel 3 only: offset of the invalid field in the buffer, in bytes.";
    CH_FRAMES = 0x1c0, Ro, 0, "Frames, or buffers of metadata, that this channel transferred since reset.";
    CH_DROPS = 0x1c4, Ro, 0, "Frames, or buffers of metadata, that this channel dropped since reset, for any reason.";
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
    CHANNEL_SPACING = 0x100, "Distance in bytes from a register of a channel to the same register of the next channel.";
    SIZE_MIN_VALUE = SMALLEST_FRAME[1] << 16 | SMALLEST_FRAME[0], "SIZE_MIN: 160x120.";
    SIZE_MAX_VALUE = LARGEST_FRAME[1] << 16 | LARGEST_FRAME[0], "SIZE_MAX: 3840x2160.";
    CAPS_SENSOR = 1 << 16, "There is a sensor, with the SENSOR_* registers.";
    CAPS_ISP = 1 << 17, "There is an ISP. Channels 2 and 3 can be enabled.";
    CAPS_AUTO = 1 << 18, "The device sets SENSOR_EXPOSURE and SENSOR_ANALOGUE_GAIN itself, from each processed frame. A write to them has no effect.";
    CTRL_ENABLE = 1 << 0, "The channel streams while this is set. Channel n: n bits further up.";
    CTRL_RESET = 1 << 31, "Write 1 to reset; reads as zero.";
    STATUS_STREAMING = 1 << 0, "The channel streams, or has not stopped yet. Channel n: n bits further up.";
    STATUS_ACTIVE = 1 << 4, "The channel's frame is in work. Channel n: n bits further up.";
    STATUS_PENDING = 1 << 8, "The channel's committed configuration waits for the start of a frame. Channel n: n bits further up.";
    TIMING_STALL = 1 << 0, "A frame begins when there are buffers for it. The frame clock is not used.";
    IRQ_FRAME_START = 1 << 0, "A frame begins; see FRAME_SEQUENCE.";
    IRQ_OVERFLOW = 1 << 8, "The line buffer overflowed.";
    IRQ_CONFIG_ERROR = 1 << 9, "The configuration is invalid: the format belongs to another channel, or a size, stride or length is wrong.";
    IRQ_BUS_ERROR = 1 << 10, "The DMA port refused an address; see ERR_ADDR.";
    IRQ_SYNC_LOSS = 1 << 11, "The sensor link was lost.";
    IRQ_UNDERRUN = 1 << 12, "The frame clock ticked, and a channel could not begin a frame: it has no pending configuration, or a frame waits for an acknowledgement.";
    IRQ_PARAMS_ERROR = 1 << 13, "Set with the IRQ_DONE of channel 3: the parameters are invalid; see CH_DONE_ERROR.";
    IRQ_DONE = 1 << 16, "The channel's frame was written, or its buffer of metadata was transferred; see CH_DONE_*. Channel n: n bits further up.";
    IRQ_LATCHED = 1 << 20, "The channel's pending configuration became active: the driver can commit the next one. Channel n: n bits further up.";
    IRQ_STOPPED = 1 << 24, "The channel has stopped. Channel n: n bits further up.";
    FRAME_INTERVAL_MIN = 1_000, "1000 frames a second.";
    FRAME_INTERVAL_MAX = 10_000_000, "One frame in ten seconds.";
    PATTERN_BARS = Pattern::Bars as u32, "Colour bars.";
    PATTERN_GRADIENT = Pattern::Gradient as u32, "Gradients of red, green and blue.";
    PATTERN_CHECKER = Pattern::Checker as u32, "Checkerboard.";
    PATTERN_BOX = Pattern::Box as u32, "A box that moves over a grey field.";
    PATTERN_ZONE_PLATE = Pattern::ZonePlate as u32, "Zone plate.";
    PATTERN_NOISE = Pattern::Noise as u32, "Noise, generated from the machine's seed.";
    PATTERN_FLAT = Pattern::Flat as u32, "A flat grey field.";
    PATTERN_COUNT = PATTERNS, "Number of patterns.";
    FLIP_HORIZONTAL = 1 << 0, "Left and right are exchanged.";
    FLIP_VERTICAL = 1 << 1, "Top and bottom are exchanged.";
    SENSOR_PIXEL_RATE = 594_000_000, "Pixels of the sensor per second, including blanking. A frame takes SENSOR_LINE_LENGTH * SENSOR_FRAME_LENGTH of them.";
    SENSOR_LINK_FREQ = 891_000_000, "Frequency of the sensor's link in hertz: four lanes, two bits per period, 12 bits per pixel.";
    SENSOR_LINE_LENGTH_MIN = 4_400, "Smallest SENSOR_LINE_LENGTH and its reset value: the conversion of a line takes this long, whatever its width.";
    SENSOR_LINE_LENGTH_MAX = 65_535, "Largest SENSOR_LINE_LENGTH.";
    SENSOR_FRAME_LENGTH_MIN = 165, "Smallest SENSOR_FRAME_LENGTH: the lines of the smallest frame + SENSOR_BLANK_LINES_MIN.";
    SENSOR_FRAME_LENGTH_MAX = 2_097_151, "Largest SENSOR_FRAME_LENGTH.";
    SENSOR_BLANK_LINES_MIN = 45, "Smallest number of blanking lines of a frame that a driver sets.";
    SENSOR_EXPOSURE_MIN = 1, "Shortest exposure, in lines.";
    SENSOR_EXPOSURE_RESET = 1_350, "Reset value of SENSOR_EXPOSURE: 10 ms at SENSOR_LINE_LENGTH_MIN.";
    SENSOR_EXPOSURE_MARGIN = 8, "Difference between SENSOR_FRAME_LENGTH and the longest exposure, in lines.";
    SENSOR_BINNING_MAX = 4, "Largest SENSOR_BINNING.";
    SENSOR_GAIN_ONE = 256, "The value of a gain of 1.";
    SENSOR_ANALOGUE_GAIN_MAX = 4_096, "Largest SENSOR_ANALOGUE_GAIN: a gain of 16.";
    SENSOR_DIGITAL_GAIN_MAX = 4_095, "Largest SENSOR_DIGITAL_GAIN: a gain of nearly 16.";
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
         /* Generated from devices/src/camera/regs.rs. A test there compares the two, and says how to regenerate this file. */\n\
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
         This page is all that a driver needs. [YOUR-DRIVER.md](YOUR-DRIVER.md) has a small example.\n\n\
         It is generated from `regs.rs`, `regs.md` and `platform.md` in this folder. A test compares them, and says how to\n\
         regenerate it. In the C header `guest-images/driver/minivmm-camera-regs.h` each name begins with `MINIVMM_CAM_`.\n\n\
         ## Operation\n\n",
    );
    out += include_str!("regs.md");
    out += include_str!("platform.md");
    out += &registers_page(REGISTERS);
    out += "\n## Formats\n\n\
            A plane is given as *bytes* / *pixels* / *lines*: a group of *pixels* of a line takes *bytes*, and the plane has one line for\n\
            each *lines* of the frame. A line is a whole number of groups. NV12 has `1/1/1` and `2/2/2`: the second plane has\n\
            2 bytes for 2 pixels, and half as many lines as the frame. Planes need not be adjacent in memory.\n\n\
            | V4L2_PIX_FMT_ | CH_FORMAT | channel | planes: bytes/pixels/lines |\n|---|---|---|---|\n";
    for format in FORMATS {
        let planes: Vec<String> = format
            .planes
            .iter()
            .map(|plane| format!("{}/{}/{}", plane.bytes, plane.pixels, plane.subsampling))
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
