/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Generated from devices/src/camera/regs.rs. A test there compares the two, and says how to regenerate this file. */
#ifndef MINIVMM_CAMERA_REGS_H
#define MINIVMM_CAMERA_REGS_H

/* Ro. Always ID_VALUE. */
#define MINIVMM_CAM_ID 0x000
/* Ro. Version of this register map: major in bits 31:16, minor in 15:0. */
#define MINIVMM_CAM_VERSION 0x004
/* Ro. Bits 3:0: number of channels; 7:4: planes of a channel; 15:8: address lines (DMA mask); and CAPS_* bits. Set by the machine. */
#define MINIVMM_CAM_CAPS 0x008
/* Ro. Smallest frame in pixels: width in bits 15:0, height in 31:16. */
#define MINIVMM_CAM_SIZE_MIN 0x00c
/* Ro. Largest frame, in the format of SIZE_MIN. Widths and heights are even. */
#define MINIVMM_CAM_SIZE_MAX 0x010
/* Rw. CTRL_* bits. */
#define MINIVMM_CAM_CTRL 0x014
/* Ro. STATUS_* bits. */
#define MINIVMM_CAM_STATUS 0x018
/* Ro. TIMING_* bits. Set by the machine. */
#define MINIVMM_CAM_TIMING 0x01c
/* Ro. IRQ_* events that occurred and are not acknowledged. */
#define MINIVMM_CAM_IRQ_RAW 0x020
/* Rw. IRQ_* events that signal the interrupt. */
#define MINIVMM_CAM_IRQ_ENABLE 0x024
/* W1c. IRQ_RAW and IRQ_ENABLE. Writing 1 acknowledges the event: it clears the bit in IRQ_RAW, whether it is enabled or not. */
#define MINIVMM_CAM_IRQ_STATUS 0x028
/* Ro. First address that the DMA port refused, bits 31:0. Valid until IRQ_BUS_ERROR is acknowledged. */
#define MINIVMM_CAM_ERR_ADDR_LO 0x030
/* Ro. Bits 63:32 of that address. */
#define MINIVMM_CAM_ERR_ADDR_HI 0x034
/* Ro. Plane (bits 7:0) and channel (15:8) of the address in ERR_ADDR. */
#define MINIVMM_CAM_ERR_INFO 0x038
/* Rw. Period of the frame clock in microseconds, clamped to FRAME_INTERVAL_MIN..FRAME_INTERVAL_MAX. The machine sets the reset value. With a sensor it follows from SENSOR_LINE_LENGTH and SENSOR_FRAME_LENGTH, and a write changes SENSOR_FRAME_LENGTH. */
#define MINIVMM_CAM_FRAME_INTERVAL 0x040
/* Rw. PATTERN_* number of the scene that the sensor looks at, from the next frame on. The machine sets the reset value. */
#define MINIVMM_CAM_PATTERN 0x044
/* Rw. FLIP_* bits: the readout direction of the sensor, from the next frame on. The colour filter order stays that of the format. */
#define MINIVMM_CAM_FLIP 0x048
/* Ro. Sequence number of the frame that began last; see IRQ_FRAME_START. */
#define MINIVMM_CAM_FRAME_SEQUENCE 0x04c
/* Rw. Pixels of a line of the sensor, including blanking; clamped to SENSOR_LINE_LENGTH_*. Without a sensor all SENSOR_* registers read as zero. */
#define MINIVMM_CAM_SENSOR_LINE_LENGTH 0x050
/* Rw. Lines of a frame of the sensor, including blanking; clamped to SENSOR_FRAME_LENGTH_*. The machine sets the reset value. */
#define MINIVMM_CAM_SENSOR_FRAME_LENGTH 0x054
/* Rw. Exposure in lines, from the next frame on. The sensor limits it to SENSOR_FRAME_LENGTH - SENSOR_EXPOSURE_MARGIN and to 4.29 seconds. */
#define MINIVMM_CAM_SENSOR_EXPOSURE 0x058
/* Rw. Gain before the conversion to integers, in units of 1/SENSOR_GAIN_ONE, up to SENSOR_ANALOGUE_GAIN_MAX, from the next frame on. */
#define MINIVMM_CAM_SENSOR_ANALOGUE_GAIN 0x05c
/* Rw. Gain after the conversion, in the same units, up to SENSOR_DIGITAL_GAIN_MAX, from the next frame on. */
#define MINIVMM_CAM_SENSOR_DIGITAL_GAIN 0x060
/* Rw. Binning: 1, 2 or 4 pixels of one colour in each direction are combined into one, from the next frame on. Another value counts as the next smaller one. A value that needs more pixels than the array has (SIZE_MAX) is reduced. */
#define MINIVMM_CAM_SENSOR_BINNING 0x064
/* Ro. Frames written by channels 0 and 1 since reset. All counters wrap. */
#define MINIVMM_CAM_FRAMES 0x0c0
/* Ro. Frames dropped by channels 0 and 1 since reset, for any reason. */
#define MINIVMM_CAM_DROPS 0x0c4
/* Ro. Line buffer overflows since reset. */
#define MINIVMM_CAM_OVERFLOWS 0x0c8
/* Ro. Bus errors since reset. */
#define MINIVMM_CAM_BUS_ERRORS 0x0cc
/* Ro. Losses of the sensor link since reset. */
#define MINIVMM_CAM_SYNC_LOSSES 0x0d0
/* Ro. Configurations refused since reset. */
#define MINIVMM_CAM_CONFIG_ERRORS 0x0d4
/* Ro. Interrupt edges signalled since reset. */
#define MINIVMM_CAM_IRQS 0x0d8
/* Ro. Ticks of the frame clock since reset at which a frame waited because the previous one was not acknowledged. */
#define MINIVMM_CAM_IRQS_LATE 0x0dc
/* Rw. V4L2 fourcc of the next frame. Channel 0 takes the processed formats, channel 1 the Bayer formats, channels 2 and 3 metadata. */
#define MINIVMM_CAM_CH_FORMAT 0x100
/* Rw. Size of the next frame in pixels: width in bits 15:0, height in 31:16. */
#define MINIVMM_CAM_CH_SIZE 0x104
/* Rw. Bytes from one line to the next in plane 0. */
#define MINIVMM_CAM_CH_STRIDE0 0x108
/* Rw. Bytes from one line to the next in plane 1. */
#define MINIVMM_CAM_CH_STRIDE1 0x10c
/* Rw. Bytes from one line to the next in plane 2. */
#define MINIVMM_CAM_CH_STRIDE2 0x110
/* Rw. Address of plane 0, bits 31:0. */
#define MINIVMM_CAM_CH_ADDR0_LO 0x118
/* Rw. Address of plane 0, bits 63:32. */
#define MINIVMM_CAM_CH_ADDR0_HI 0x11c
/* Rw. Address of plane 1, bits 31:0. */
#define MINIVMM_CAM_CH_ADDR1_LO 0x120
/* Rw. Address of plane 1, bits 63:32. */
#define MINIVMM_CAM_CH_ADDR1_HI 0x124
/* Rw. Address of plane 2, bits 31:0. */
#define MINIVMM_CAM_CH_ADDR2_LO 0x128
/* Rw. Address of plane 2, bits 63:32. */
#define MINIVMM_CAM_CH_ADDR2_HI 0x12c
/* Rw. Bytes of the buffer of plane 0. The device writes nothing beyond them. For channel 3: bytes of the buffer of parameters. */
#define MINIVMM_CAM_CH_LEN0 0x130
/* Rw. Bytes of the buffer of plane 1. */
#define MINIVMM_CAM_CH_LEN1 0x134
/* Rw. Bytes of the buffer of plane 2. */
#define MINIVMM_CAM_CH_LEN2 0x138
/* Wo. Writing 1 copies CH_FORMAT to CH_LEN2 and CH_INPUT_SIZE to CH_CROP_SIZE to the pending configuration. */
#define MINIVMM_CAM_CH_COMMIT 0x13c
/* Rw. Channel 0 with CAPS_ISP only: size of the sensor's output for the next frame, in the format and the limits of CH_SIZE. 0: the size of the frame. */
#define MINIVMM_CAM_CH_INPUT_SIZE 0x140
/* Rw. Channel 0 with CAPS_ISP only: position in the sensor's output of the part that the next frame shows: column in bits 15:0, line in 31:16; both even. */
#define MINIVMM_CAM_CH_CROP_POSITION 0x144
/* Rw. Channel 0 with CAPS_ISP only: size of that part, in the format of CH_SIZE, even and not smaller than the frame, to which it is scaled. 0: the sensor's whole output; CH_CROP_POSITION is then ignored. */
#define MINIVMM_CAM_CH_CROP_SIZE 0x148
/* Ro. Address of plane 0 of the last frame written, bits 31:0. CH_DONE_* do not change until IRQ_DONE is acknowledged. */
#define MINIVMM_CAM_CH_DONE_ADDR_LO 0x180
/* Ro. Bits 63:32 of that address. */
#define MINIVMM_CAM_CH_DONE_ADDR_HI 0x184
/* Ro. Bytes of that frame, summed over all planes: from the first to the last byte written, including the padding of lines. */
#define MINIVMM_CAM_CH_DONE_BYTES 0x188
/* Ro. Sequence number of that frame. The first frame after the start of the sensor has 0. Dropped frames count. */
#define MINIVMM_CAM_CH_DONE_SEQUENCE 0x18c
/* Ro. Start of that frame, in nanoseconds since the start of the sensor, bits 31:0. */
#define MINIVMM_CAM_CH_DONE_TIME_LO 0x190
/* Ro. Bits 63:32 of that time. */
#define MINIVMM_CAM_CH_DONE_TIME_HI 0x194
/* Ro. Channel 3 only: the error in the parameters. Type of the block in bits 15:0, reason (PARAMS_ERROR_*) in 31:16. 0: the parameters were accepted. */
#define MINIVMM_CAM_CH_DONE_ERROR 0x198
/* Ro. Channel 3 only: offset of that block in the buffer, in bytes. */
#define MINIVMM_CAM_CH_DONE_ERROR_BLOCK 0x19c
/* Ro. Channel 3 only: offset of the invalid field in the buffer, in bytes. */
#define MINIVMM_CAM_CH_DONE_ERROR_OFFSET 0x1a0
/* Ro. Frames, or buffers of metadata, that this channel transferred since reset. */
#define MINIVMM_CAM_CH_FRAMES 0x1c0
/* Ro. Frames, or buffers of metadata, that this channel dropped since reset, for any reason. */
#define MINIVMM_CAM_CH_DROPS 0x1c4

/* ID: "MCVM" in memory order. */
#define MINIVMM_CAM_ID_VALUE 0x4d56434d
/* VERSION: 2.2. */
#define MINIVMM_CAM_VERSION_VALUE 0x20002
/* Number of channels. */
#define MINIVMM_CAM_CHANNELS 0x4
/* The channel of the processed frames. */
#define MINIVMM_CAM_CHANNEL_PROCESSED 0x0
/* The channel of the sensor's raw frames. */
#define MINIVMM_CAM_CHANNEL_RAW 0x1
/* The channel of the ISP's statistics. */
#define MINIVMM_CAM_CHANNEL_STATISTICS 0x2
/* The channel of the ISP's parameters. */
#define MINIVMM_CAM_CHANNEL_PARAMS 0x3
/* Distance in bytes from a register of a channel to the same register of the next channel. */
#define MINIVMM_CAM_CHANNEL_SPACING 0x100
/* SIZE_MIN: 160x120. */
#define MINIVMM_CAM_SIZE_MIN_VALUE 0x7800a0
/* SIZE_MAX: 3840x2160. */
#define MINIVMM_CAM_SIZE_MAX_VALUE 0x8700f00
/* There is a sensor, with the SENSOR_* registers. */
#define MINIVMM_CAM_CAPS_SENSOR 0x10000
/* There is an ISP. Channels 2 and 3 can be enabled. */
#define MINIVMM_CAM_CAPS_ISP 0x20000
/* The device sets SENSOR_EXPOSURE and SENSOR_ANALOGUE_GAIN itself, from each processed frame. A write to them has no effect. */
#define MINIVMM_CAM_CAPS_AUTO 0x40000
/* The channel streams while this is set. Channel n: n bits further up. */
#define MINIVMM_CAM_CTRL_ENABLE 0x1
/* Write 1 to reset; reads as zero. */
#define MINIVMM_CAM_CTRL_RESET 0x80000000
/* The channel streams, or has not stopped yet. Channel n: n bits further up. */
#define MINIVMM_CAM_STATUS_STREAMING 0x1
/* The channel's frame is in work. Channel n: n bits further up. */
#define MINIVMM_CAM_STATUS_ACTIVE 0x10
/* The channel's committed configuration waits for the start of a frame. Channel n: n bits further up. */
#define MINIVMM_CAM_STATUS_PENDING 0x100
/* A frame begins when there are buffers for it. The frame clock is not used. */
#define MINIVMM_CAM_TIMING_STALL 0x1
/* A frame begins; see FRAME_SEQUENCE. */
#define MINIVMM_CAM_IRQ_FRAME_START 0x1
/* The line buffer overflowed. */
#define MINIVMM_CAM_IRQ_OVERFLOW 0x100
/* The configuration is invalid: the format belongs to another channel, or a size, stride or length is wrong. */
#define MINIVMM_CAM_IRQ_CONFIG_ERROR 0x200
/* The DMA port refused an address; see ERR_ADDR. */
#define MINIVMM_CAM_IRQ_BUS_ERROR 0x400
/* The sensor link was lost. */
#define MINIVMM_CAM_IRQ_SYNC_LOSS 0x800
/* The frame clock ticked, and a channel could not begin a frame: it has no pending configuration, or a frame waits for an acknowledgement. */
#define MINIVMM_CAM_IRQ_UNDERRUN 0x1000
/* Set with the IRQ_DONE of channel 3: the parameters are invalid; see CH_DONE_ERROR. */
#define MINIVMM_CAM_IRQ_PARAMS_ERROR 0x2000
/* The channel's frame was written, or its buffer of metadata was transferred; see CH_DONE_*. Channel n: n bits further up. */
#define MINIVMM_CAM_IRQ_DONE 0x10000
/* The channel's pending configuration became active: the driver can commit the next one. Channel n: n bits further up. */
#define MINIVMM_CAM_IRQ_LATCHED 0x100000
/* The channel has stopped. Channel n: n bits further up. */
#define MINIVMM_CAM_IRQ_STOPPED 0x1000000
/* 1000 frames a second. */
#define MINIVMM_CAM_FRAME_INTERVAL_MIN 0x3e8
/* One frame in ten seconds. */
#define MINIVMM_CAM_FRAME_INTERVAL_MAX 0x989680
/* Colour bars. */
#define MINIVMM_CAM_PATTERN_BARS 0x0
/* Gradients of red, green and blue. */
#define MINIVMM_CAM_PATTERN_GRADIENT 0x1
/* Checkerboard. */
#define MINIVMM_CAM_PATTERN_CHECKER 0x2
/* A box that moves over a grey field. */
#define MINIVMM_CAM_PATTERN_BOX 0x3
/* Zone plate. */
#define MINIVMM_CAM_PATTERN_ZONE_PLATE 0x4
/* Noise, generated from the machine's seed. */
#define MINIVMM_CAM_PATTERN_NOISE 0x5
/* A flat grey field. */
#define MINIVMM_CAM_PATTERN_FLAT 0x6
/* Number of patterns. */
#define MINIVMM_CAM_PATTERN_COUNT 0x7
/* Left and right are exchanged. */
#define MINIVMM_CAM_FLIP_HORIZONTAL 0x1
/* Top and bottom are exchanged. */
#define MINIVMM_CAM_FLIP_VERTICAL 0x2
/* Pixels of the sensor per second, including blanking. A frame takes SENSOR_LINE_LENGTH * SENSOR_FRAME_LENGTH of them. */
#define MINIVMM_CAM_SENSOR_PIXEL_RATE 0x2367b880
/* Frequency of the sensor's link in hertz: four lanes, two bits per period, 12 bits per pixel. */
#define MINIVMM_CAM_SENSOR_LINK_FREQ 0x351b94c0
/* Smallest SENSOR_LINE_LENGTH and its reset value: the conversion of a line takes this long, whatever its width. */
#define MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN 0x1130
/* Largest SENSOR_LINE_LENGTH. */
#define MINIVMM_CAM_SENSOR_LINE_LENGTH_MAX 0xffff
/* Smallest SENSOR_FRAME_LENGTH: the lines of the smallest frame + SENSOR_BLANK_LINES_MIN. */
#define MINIVMM_CAM_SENSOR_FRAME_LENGTH_MIN 0xa5
/* Largest SENSOR_FRAME_LENGTH. */
#define MINIVMM_CAM_SENSOR_FRAME_LENGTH_MAX 0x1fffff
/* Smallest number of blanking lines of a frame that a driver sets. */
#define MINIVMM_CAM_SENSOR_BLANK_LINES_MIN 0x2d
/* Shortest exposure, in lines. */
#define MINIVMM_CAM_SENSOR_EXPOSURE_MIN 0x1
/* Reset value of SENSOR_EXPOSURE: 10 ms at SENSOR_LINE_LENGTH_MIN. */
#define MINIVMM_CAM_SENSOR_EXPOSURE_RESET 0x546
/* Difference between SENSOR_FRAME_LENGTH and the longest exposure, in lines. */
#define MINIVMM_CAM_SENSOR_EXPOSURE_MARGIN 0x8
/* Largest SENSOR_BINNING. */
#define MINIVMM_CAM_SENSOR_BINNING_MAX 0x4
/* The value of a gain of 1. */
#define MINIVMM_CAM_SENSOR_GAIN_ONE 0x100
/* Largest SENSOR_ANALOGUE_GAIN: a gain of 16. */
#define MINIVMM_CAM_SENSOR_ANALOGUE_GAIN_MAX 0x1000
/* Largest SENSOR_DIGITAL_GAIN: a gain of nearly 16. */
#define MINIVMM_CAM_SENSOR_DIGITAL_GAIN_MAX 0xfff
/* Size of the register range, in bytes. */
#define MINIVMM_CAM_MAPPED_SIZE 0x1000

#endif
