/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Made from devices/src/camera/regs.rs: a test there holds the two equal, and says how to make this anew. */
#ifndef MINIVMM_CAMERA_REGS_H
#define MINIVMM_CAMERA_REGS_H

/* Ro. Always ID_VALUE. */
#define MINIVMM_CAM_ID 0x000
/* Ro. Version of this register map: major in bits 31:16, minor in 15:0. */
#define MINIVMM_CAM_VERSION 0x004
/* Ro. Bits 3:0 number of channels, 7:4 planes of a channel, 15:8 address lines (DMA mask), and CAPS_* bits; set by the machine. */
#define MINIVMM_CAM_CAPS 0x008
/* Ro. Smallest frame: width in bits 15:0, height in 31:16, in pixels. */
#define MINIVMM_CAM_SIZE_MIN 0x00c
/* Ro. Largest frame, as SIZE_MIN. Widths and heights are even. */
#define MINIVMM_CAM_SIZE_MAX 0x010
/* Rw. CTRL_* bits. */
#define MINIVMM_CAM_CTRL 0x014
/* Ro. STATUS_* bits. */
#define MINIVMM_CAM_STATUS 0x018
/* Ro. TIMING_* bits; set by the machine. */
#define MINIVMM_CAM_TIMING 0x01c
/* Ro. IRQ_* events that happened and were not acknowledged. */
#define MINIVMM_CAM_IRQ_RAW 0x020
/* Rw. IRQ_* events that raise the interrupt. */
#define MINIVMM_CAM_IRQ_ENABLE 0x024
/* W1c. IRQ_RAW and IRQ_ENABLE; writing 1 clears the event, also in IRQ_RAW. */
#define MINIVMM_CAM_IRQ_STATUS 0x028
/* Ro. First address that the DMA port refused, bits 31:0; held until IRQ_BUS_ERROR is acknowledged. */
#define MINIVMM_CAM_ERR_ADDR_LO 0x030
/* Ro. The same, bits 63:32. */
#define MINIVMM_CAM_ERR_ADDR_HI 0x034
/* Ro. Plane in bits 7:0, channel in 15:8, of the address in ERR_ADDR. */
#define MINIVMM_CAM_ERR_INFO 0x038
/* Rw. Frame clock's period in microseconds, clamped to FRAME_INTERVAL_MIN..FRAME_INTERVAL_MAX; reset value set by the machine. With a sensor it is that of SENSOR_LINE_LENGTH and SENSOR_FRAME_LENGTH, and a write changes the latter. */
#define MINIVMM_CAM_FRAME_INTERVAL 0x040
/* Rw. PATTERN_* scene that the sensor looks at, from the next frame on; reset value set by the machine. */
#define MINIVMM_CAM_PATTERN 0x044
/* Rw. FLIP_* bits: how the sensor is read out, from the next frame on. The order of colour filters stays the format's. */
#define MINIVMM_CAM_FLIP 0x048
/* Ro. Sequence number of the frame that began last; see IRQ_FRAME_START. */
#define MINIVMM_CAM_FRAME_SEQUENCE 0x04c
/* Rw. Pixels of a line of the sensor, blanking included; clamped to SENSOR_LINE_LENGTH_*. All SENSOR_* registers read as zero if there is no sensor. */
#define MINIVMM_CAM_SENSOR_LINE_LENGTH 0x050
/* Rw. Lines of a frame of the sensor, blanking included; clamped to SENSOR_FRAME_LENGTH_*; reset value set by the machine. */
#define MINIVMM_CAM_SENSOR_FRAME_LENGTH 0x054
/* Rw. Lines that a frame is exposed, from the next frame on: at most SENSOR_FRAME_LENGTH less SENSOR_EXPOSURE_MARGIN of them count, and no more than 4.29 seconds. */
#define MINIVMM_CAM_SENSOR_EXPOSURE 0x058
/* Rw. Gain before the step to whole numbers, in units of 1/SENSOR_GAIN_ONE, up to SENSOR_ANALOGUE_GAIN_MAX, from the next frame on. */
#define MINIVMM_CAM_SENSOR_ANALOGUE_GAIN 0x05c
/* Rw. The same after it, up to SENSOR_DIGITAL_GAIN_MAX. */
#define MINIVMM_CAM_SENSOR_DIGITAL_GAIN 0x060
/* Rw. Pixels of one colour in each direction that make one of those which the sensor puts out, from the next frame on: 1, 2 or 4. Other values count as the next smaller one, and so does what takes more pixels than the array has, which is as large as SIZE_MAX. */
#define MINIVMM_CAM_SENSOR_BINNING 0x064
/* Ro. Frames written since reset, by channels 0 and 1; wraps, as all counters do. */
#define MINIVMM_CAM_FRAMES 0x0c0
/* Ro. Frames dropped since reset, by channels 0 and 1, for whatever reason. */
#define MINIVMM_CAM_DROPS 0x0c4
/* Ro. Line buffer overflows since reset. */
#define MINIVMM_CAM_OVERFLOWS 0x0c8
/* Ro. Bus errors since reset. */
#define MINIVMM_CAM_BUS_ERRORS 0x0cc
/* Ro. Losses of the sensor link since reset. */
#define MINIVMM_CAM_SYNC_LOSSES 0x0d0
/* Ro. Configurations refused since reset. */
#define MINIVMM_CAM_CONFIG_ERRORS 0x0d4
/* Ro. Interrupt edges raised since reset. */
#define MINIVMM_CAM_IRQS 0x0d8
/* Ro. Ticks of the frame clock that found a frame held back, as the one before was not acknowledged, since reset. */
#define MINIVMM_CAM_IRQS_LATE 0x0dc
/* Rw. V4L2 fourcc of the next frame: channel 0 has the processed formats, channel 1 the Bayer ones, channels 2 and 3 metadata. */
#define MINIVMM_CAM_CH_FORMAT 0x100
/* Rw. Size of the next frame: width in bits 15:0, height in 31:16, in pixels. */
#define MINIVMM_CAM_CH_SIZE 0x104
/* Rw. Bytes from line to line in plane 0. */
#define MINIVMM_CAM_CH_STRIDE0 0x108
/* Rw. The same for plane 1. */
#define MINIVMM_CAM_CH_STRIDE1 0x10c
/* Rw. The same for plane 2. */
#define MINIVMM_CAM_CH_STRIDE2 0x110
/* Rw. Address of plane 0, bits 31:0. */
#define MINIVMM_CAM_CH_ADDR0_LO 0x118
/* Rw. The same, bits 63:32. */
#define MINIVMM_CAM_CH_ADDR0_HI 0x11c
/* Rw. Address of plane 1, bits 31:0. */
#define MINIVMM_CAM_CH_ADDR1_LO 0x120
/* Rw. The same, bits 63:32. */
#define MINIVMM_CAM_CH_ADDR1_HI 0x124
/* Rw. Address of plane 2, bits 31:0. */
#define MINIVMM_CAM_CH_ADDR2_LO 0x128
/* Rw. The same, bits 63:32. */
#define MINIVMM_CAM_CH_ADDR2_HI 0x12c
/* Rw. Bytes that plane 0 may take: nothing is written beyond. Of channel 3 those that the parameters take. */
#define MINIVMM_CAM_CH_LEN0 0x130
/* Rw. The same for plane 1. */
#define MINIVMM_CAM_CH_LEN1 0x134
/* Rw. The same for plane 2. */
#define MINIVMM_CAM_CH_LEN2 0x138
/* Wo. Writing 1 makes CH_FORMAT to CH_LEN2, and CH_INPUT_SIZE to CH_CROP_SIZE, the pending configuration. */
#define MINIVMM_CAM_CH_COMMIT 0x13c
/* Rw. Of channel 0, and only with CAPS_ISP: size of what the sensor puts out for the next frame, as CH_SIZE and within the same limits; 0: that of the frame. */
#define MINIVMM_CAM_CH_INPUT_SIZE 0x140
/* Rw. Of channel 0, and only with CAPS_ISP: where in that the part begins of which the next frame is made: columns left of it in bits 15:0, lines above it in 31:16, even. */
#define MINIVMM_CAM_CH_CROP_POSITION 0x144
/* Rw. Size of that part, as CH_SIZE, even and not smaller than the frame, to which it is scaled; 0: all that the sensor puts out, whatever CH_CROP_POSITION is. */
#define MINIVMM_CAM_CH_CROP_SIZE 0x148
/* Ro. Address of plane 0 of the last frame written, bits 31:0; CH_DONE_* hold until IRQ_DONE is acknowledged. */
#define MINIVMM_CAM_CH_DONE_ADDR_LO 0x180
/* Ro. The same, bits 63:32. */
#define MINIVMM_CAM_CH_DONE_ADDR_HI 0x184
/* Ro. Bytes of that frame in all planes, from the first to the last written, padding of lines included. */
#define MINIVMM_CAM_CH_DONE_BYTES 0x188
/* Ro. Its sequence number: 0 for the first frame after the sensor started, dropped frames counted. */
#define MINIVMM_CAM_CH_DONE_SEQUENCE 0x18c
/* Ro. Its start of frame, in nanoseconds since the sensor started, bits 31:0. */
#define MINIVMM_CAM_CH_DONE_TIME_LO 0x190
/* Ro. The same, bits 63:32. */
#define MINIVMM_CAM_CH_DONE_TIME_HI 0x194
/* Ro. Of channel 3: what was wrong with the parameters. Type of the block in bits 15:0, reason (PARAMS_ERROR_*) in 31:16; 0: they were taken. */
#define MINIVMM_CAM_CH_DONE_ERROR 0x198
/* Ro. Where in the buffer that block begins, in bytes. */
#define MINIVMM_CAM_CH_DONE_ERROR_BLOCK 0x19c
/* Ro. Where in the buffer the field begins that was wrong, in bytes. */
#define MINIVMM_CAM_CH_DONE_ERROR_OFFSET 0x1a0
/* Ro. Frames, or buffers of metadata, that this channel transferred since reset. */
#define MINIVMM_CAM_CH_FRAMES 0x1c0
/* Ro. Frames, or buffers of metadata, that this channel dropped since reset, for whatever reason. */
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
/* Bytes from a register of a channel to the same of the next. */
#define MINIVMM_CAM_CHANNEL_SPACING 0x100
/* SIZE_MIN: 160x120. */
#define MINIVMM_CAM_SIZE_MIN_VALUE 0x7800a0
/* SIZE_MAX: 3840x2160. */
#define MINIVMM_CAM_SIZE_MAX_VALUE 0x8700f00
/* There is a sensor, and the SENSOR_* registers. */
#define MINIVMM_CAM_CAPS_SENSOR 0x10000
/* There is an ISP, and channels 2 and 3 can be enabled. */
#define MINIVMM_CAM_CAPS_ISP 0x20000
/* The device itself sets SENSOR_EXPOSURE and SENSOR_ANALOGUE_GAIN, by each processed frame; a driver's writes to these are dropped. */
#define MINIVMM_CAM_CAPS_AUTO 0x40000
/* The channel streams while set. Channel n: n bits further up. */
#define MINIVMM_CAM_CTRL_ENABLE 0x1
/* Write 1 to reset; reads as zero. */
#define MINIVMM_CAM_CTRL_RESET 0x80000000
/* The channel streams, or has not yet stopped. Channel n: n bits further up. */
#define MINIVMM_CAM_STATUS_STREAMING 0x1
/* The channel's frame is in work. Channel n: n bits further up. */
#define MINIVMM_CAM_STATUS_ACTIVE 0x10
/* The channel's committed configuration waits for the start of a frame. Channel n: n bits further up. */
#define MINIVMM_CAM_STATUS_PENDING 0x100
/* A frame begins when there are buffers for it, not by the frame clock. */
#define MINIVMM_CAM_TIMING_STALL 0x1
/* A frame begins; see FRAME_SEQUENCE. */
#define MINIVMM_CAM_IRQ_FRAME_START 0x1
/* The line buffer overflowed. */
#define MINIVMM_CAM_IRQ_OVERFLOW 0x100
/* Format not the channel's, bad size, stride or length too small: see the frame's configuration. */
#define MINIVMM_CAM_IRQ_CONFIG_ERROR 0x200
/* The DMA port refused an address; see ERR_ADDR. */
#define MINIVMM_CAM_IRQ_BUS_ERROR 0x400
/* The sensor link was lost. */
#define MINIVMM_CAM_IRQ_SYNC_LOSS 0x800
/* The frame clock ticked and a channel could not begin a frame: none pending, or one held back. */
#define MINIVMM_CAM_IRQ_UNDERRUN 0x1000
/* With the IRQ_DONE of channel 3: the parameters were wrong; see CH_DONE_ERROR. */
#define MINIVMM_CAM_IRQ_PARAMS_ERROR 0x2000
/* The channel's frame was written, or its buffer of metadata transferred; see CH_DONE_*. Channel n: n bits further up. */
#define MINIVMM_CAM_IRQ_DONE 0x10000
/* The channel's pending configuration became the active one: the next may be programmed. Channel n: n bits further up. */
#define MINIVMM_CAM_IRQ_LATCHED 0x100000
/* The channel has stopped. Channel n: n bits further up. */
#define MINIVMM_CAM_IRQ_STOPPED 0x1000000
/* 1000 frames a second. */
#define MINIVMM_CAM_FRAME_INTERVAL_MIN 0x3e8
/* A frame in ten seconds. */
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
/* Noise from the machine's seed. */
#define MINIVMM_CAM_PATTERN_NOISE 0x5
/* A flat grey field. */
#define MINIVMM_CAM_PATTERN_FLAT 0x6
/* Number of patterns. */
#define MINIVMM_CAM_PATTERN_COUNT 0x7
/* Left and right are exchanged. */
#define MINIVMM_CAM_FLIP_HORIZONTAL 0x1
/* Top and bottom are exchanged. */
#define MINIVMM_CAM_FLIP_VERTICAL 0x2
/* Pixels of the sensor in a second, blanking included. A frame takes SENSOR_LINE_LENGTH * SENSOR_FRAME_LENGTH of them. */
#define MINIVMM_CAM_SENSOR_PIXEL_RATE 0x2367b880
/* Hertz of the sensor's link, as four lanes with two bits a period carry 12 bits a pixel. */
#define MINIVMM_CAM_SENSOR_LINK_FREQ 0x351b94c0
/* Least SENSOR_LINE_LENGTH, and its reset value: how long the conversion of a line takes, whatever its width. */
#define MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN 0x1130
/* Largest SENSOR_LINE_LENGTH. */
#define MINIVMM_CAM_SENSOR_LINE_LENGTH_MAX 0xffff
/* Least SENSOR_FRAME_LENGTH: the lines of the smallest frame, and SENSOR_BLANK_LINES_MIN. */
#define MINIVMM_CAM_SENSOR_FRAME_LENGTH_MIN 0xa5
/* Largest SENSOR_FRAME_LENGTH. */
#define MINIVMM_CAM_SENSOR_FRAME_LENGTH_MAX 0x1fffff
/* Lines of a frame that a driver leaves dark, at least. */
#define MINIVMM_CAM_SENSOR_BLANK_LINES_MIN 0x2d
/* Shortest exposure, in lines. */
#define MINIVMM_CAM_SENSOR_EXPOSURE_MIN 0x1
/* SENSOR_EXPOSURE after a reset: 10 ms of lines of SENSOR_LINE_LENGTH_MIN. */
#define MINIVMM_CAM_SENSOR_EXPOSURE_RESET 0x546
/* Lines of a frame that cannot be exposed. */
#define MINIVMM_CAM_SENSOR_EXPOSURE_MARGIN 0x8
/* Largest SENSOR_BINNING. */
#define MINIVMM_CAM_SENSOR_BINNING_MAX 0x4
/* A gain of 1. */
#define MINIVMM_CAM_SENSOR_GAIN_ONE 0x100
/* A gain of 16. */
#define MINIVMM_CAM_SENSOR_ANALOGUE_GAIN_MAX 0x1000
/* A gain of nearly 16. */
#define MINIVMM_CAM_SENSOR_DIGITAL_GAIN_MAX 0xfff
/* Size of the register range, in bytes. */
#define MINIVMM_CAM_MAPPED_SIZE 0x1000

#endif
