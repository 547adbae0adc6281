/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR Apache-2.0 */
/*
 * The metadata of the camera's ISP, as programs see it: buffers of statistics
 * (V4L2_BUF_TYPE_META_CAPTURE) and of parameters (V4L2_BUF_TYPE_META_OUTPUT).
 * devices/src/camera/METADATA.md has the same as a page, and says how they are used.
 *
 * Made from devices/src/camera/uapi/table.rs: a test there holds the two equal, and
 * says how to make this anew.
 */
#ifndef MINIVMM_CAMERA_META_H
#define MINIVMM_CAMERA_META_H

#include <linux/types.h>
#include <linux/videodev2.h>

#define V4L2_META_FMT_MINIVMM_STATS v4l2_fourcc('M', 'V', 'M', 'S')
#define V4L2_META_FMT_MINIVMM_PARAMS v4l2_fourcc('M', 'V', 'M', 'P')

/* A buffer of parameters was bad; of the node of the parameters. */
#define V4L2_EVENT_MINIVMM_PARAMS_ERROR (V4L2_EVENT_PRIVATE_START + 1)

/* What that event has in its u.data. */
struct minivmm_params_error {
	/* The sequence of the buffer, and of the frame that it was for. */
	__u32 sequence;
	/* MINIVMM_PARAMS_ERROR_*. */
	__u32 reason;
	/* The type of the block; 0: it is the buffer's header. */
	__u32 type;
	/* Where in the buffer the block begins, in bytes. */
	__u32 block;
	/* Where in the buffer the field begins that is wrong, in bytes. */
	__u32 offset;
};

/*
 * The two headers are those of struct v4l2_isp_params_buffer and of struct
 * v4l2_isp_params_block_header, which Linux has since 6.19
 * (linux/media/v4l2-isp.h), as are the flags.
 */
struct minivmm_params_buffer {
	/* MINIVMM_PARAMS_VERSION. */
	__u32 version;
	/* Bytes of the blocks. */
	__u32 data_size;
	/* The blocks, one behind the other. */
	__u8 data[];
};

struct minivmm_params_block_header {
	/* enum minivmm_params_block_type. */
	__u16 type;
	/* MINIVMM_PARAMS_FL_BLOCK_*. */
	__u16 flags;
	/* Bytes of the block, header included. */
	__u32 size;
} __attribute__((aligned(8)));

/* version of a buffer of statistics. */
#define MINIVMM_STATS_VERSION 1
/* version of a buffer of parameters; 0 is taken for the same. */
#define MINIVMM_PARAMS_VERSION 1
/* Bytes of a buffer with all blocks of parameters, header included. */
#define MINIVMM_PARAMS_MAX_SIZE 2584
/* The stage does nothing; the block may end after its header. */
#define MINIVMM_PARAMS_FL_BLOCK_DISABLE 1
/* The stage does what the block says, as without flags. */
#define MINIVMM_PARAMS_FL_BLOCK_ENABLE 2
/* The version is unknown. */
#define MINIVMM_PARAMS_ERROR_VERSION 1
/* The blocks would take more than the buffer, or than PARAMS_MAX_SIZE. */
#define MINIVMM_PARAMS_ERROR_DATA_SIZE 2
/* A block would take more than is left of data_size. */
#define MINIVMM_PARAMS_ERROR_TRUNCATED 3
/* There is no block of this type. */
#define MINIVMM_PARAMS_ERROR_TYPE 4
/* A flag is unknown, or both are set. */
#define MINIVMM_PARAMS_ERROR_FLAGS 5
/* The size is not that of a block of this type. */
#define MINIVMM_PARAMS_ERROR_SIZE 6
/* A block of this type came before. */
#define MINIVMM_PARAMS_ERROR_DUPLICATE 7
/* The value is out of its field's range. */
#define MINIVMM_PARAMS_ERROR_RANGE 8

/* The type of each block. */
enum minivmm_params_block_type {
	MINIVMM_PARAMS_BLOCK_BLACK_LEVEL = 1,
	MINIVMM_PARAMS_BLOCK_DEFECT_PIXEL = 2,
	MINIVMM_PARAMS_BLOCK_LENS_SHADING = 3,
	MINIVMM_PARAMS_BLOCK_AWB_RANGE = 4,
	MINIVMM_PARAMS_BLOCK_WHITE_BALANCE = 5,
	MINIVMM_PARAMS_BLOCK_COLOUR_MATRIX = 6,
	MINIVMM_PARAMS_BLOCK_TONE_CURVE = 7,
	MINIVMM_PARAMS_BLOCK_DETAIL = 8,
	MINIVMM_PARAMS_BLOCK_DIGITAL_GAIN = 9,
};

/* What is subtracted from a sample first. */
struct minivmm_params_black_level {
	struct minivmm_params_block_header header;
	/* For each channel, in linear values. */
	__u16 level[4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_black_level) == 16, "no padding");

/* A sample that exceeds the largest of its eight neighbours of the same colour by more than threshold, or is less than the least by more, is replaced by that neighbour. */
struct minivmm_params_defect_pixel {
	struct minivmm_params_block_header header;
	/* In linear values. */
	__u16 threshold;
	/* 0. */
	__u16 reserved[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_defect_pixel) == 16, "no padding");

/* What the lens lost: gains at the points of a mesh whose first and last lines and columns lie on the frame's edges, linear between them. */
struct minivmm_params_lens_shading {
	struct minivmm_params_block_header header;
	/* Line by line, from left to right, for each channel, in steps of 1/16384. */
	__u16 gain[17][17][4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_lens_shading) == 2320, "no padding");

/* Between which values, these included, all four samples of a quad must lie to be counted in balanced of the statistics. */
struct minivmm_params_awb_range {
	struct minivmm_params_block_header header;
	/* In linear values. */
	__u16 min;
	/* In linear values; a quad with a sample above it is saturated. */
	__u16 max;
	/* 0. */
	__u16 reserved[2];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_awb_range) == 16, "no padding");

/* What samples are multiplied by. */
struct minivmm_params_white_balance {
	struct minivmm_params_block_header header;
	/* For each channel, in steps of 1/16384. */
	__u16 gain[4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_white_balance) == 16, "no padding");

/* From the sensor's colours to those of the picture. */
struct minivmm_params_colour_matrix {
	struct minivmm_params_block_header header;
	/* What red, green and blue get of the sensor's red, green and blue, in steps of 1/4096. */
	__s16 coefficient[3][3];
	/* What comes to red, green and blue then, in linear values. */
	__s16 offset[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_colour_matrix) == 32, "no padding");

/* Coded values at linear ones, straight lines between them. */
struct minivmm_params_tone_curve {
	struct minivmm_params_block_header header;
	/* At 0, 32, 64 to 512; from there each 128 up to 2560; from there each 512 up to 16384. In coded values. */
	__u16 point[60];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_tone_curve) == 128, "no padding");

/* How the difference of a pixel's luma from that of its surroundings changes: within the threshold it counts as noise, beyond it as detail. */
struct minivmm_params_detail {
	struct minivmm_params_block_header header;
	/* In coded values. */
	__u16 threshold;
	/* So much of the noise is taken away, in steps of 1/32768. */
	__u16 denoise;
	/* So much detail is added, in steps of 1/16384. */
	__u16 sharpen;
	/* No pixel is changed by more than this, in coded values. */
	__u16 limit;
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_detail) == 16, "no padding");

/* What all colours are multiplied by, together with the colour matrix, of which no coefficient becomes more than 8 by it. */
struct minivmm_params_digital_gain {
	struct minivmm_params_block_header header;
	/* In steps of 1/256. */
	__u16 gain;
	/* 0. */
	__u16 reserved[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_digital_gain) == 16, "no padding");

/* What was measured of a zone. A quad is a red, two green and a blue pixel; its luma is (R + 2 G + B) / 4. */
struct minivmm_stats_zone {
	/* Sum of the quads' luma, in linear values. */
	__u64 luma;
	/* Sums of red, of the mean of both greens, and of blue, of the balanced quads. */
	__u64 balanced[3];
	/* Sum of the squares of the differences of luma between a quad's neighbours to the left and to the right, in steps of 16. */
	__u64 focus;
	/* Number of quads. */
	__u32 quads;
	/* Number of those whose four samples lie in the range of the block AWB_RANGE. */
	__u32 balanced_quads;
	/* Number of those of which a sample lies above that range. */
	__u32 saturated_quads;
	/* 0. */
	__u32 reserved;
};

_Static_assert(sizeof(struct minivmm_stats_zone) == 56, "no padding");

/* Statistics of a frame: what was measured, and what it was made with. */
struct minivmm_stats_buffer {
	/* MINIVMM_STATS_VERSION. */
	__u32 version;
	/* Bytes of this structure. */
	__u32 size;
	/* Sequence number of the frame, as CH_DONE_SEQUENCE. */
	__u32 sequence;
	/* That of the first frame made with the last parameters that were taken; all ones if none were since the sensor started. */
	__u32 params_sequence;
	/* Start of frame, in nanoseconds since the sensor started. */
	__u64 timestamp;
	/* How long the sensor was exposed, in nanoseconds. */
	__u32 exposure;
	/* The sensor's analogue gain, in steps of 1/256. */
	__u32 analogue_gain;
	/* The sensor's digital gain, in steps of 1/256. */
	__u32 digital_gain;
	/* 0. */
	__u32 reserved;
	/* The ISP's gain of each channel, in steps of 1/16384. */
	__u16 white_balance[4];
	/* Quads by their luma, in steps of 64 linear values. */
	__u32 histogram[256];
	/* Zones of the whole frame, line by line. */
	struct minivmm_stats_zone zone[15][15];
};

_Static_assert(sizeof(struct minivmm_stats_buffer) == 13672, "no padding");

#endif
