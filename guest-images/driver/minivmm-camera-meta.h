/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR Apache-2.0 */
/*
 * The metadata of the camera's ISP, as programs see it: buffers of statistics
 * (V4L2_BUF_TYPE_META_CAPTURE) and of parameters (V4L2_BUF_TYPE_META_OUTPUT).
 * devices/src/camera/METADATA.md is the manual.
 *
 * Generated from devices/src/camera/uapi/table.rs. A test there compares the two,
 * and says how to regenerate this file.
 */
#ifndef MINIVMM_CAMERA_META_H
#define MINIVMM_CAMERA_META_H

#include <linux/types.h>
#include <linux/videodev2.h>

#define V4L2_META_FMT_MINIVMM_STATS v4l2_fourcc('M', 'V', 'M', 'S')
#define V4L2_META_FMT_MINIVMM_PARAMS v4l2_fourcc('M', 'V', 'M', 'P')

/* The node of the parameters sends this event for an invalid buffer. */
#define V4L2_EVENT_MINIVMM_PARAMS_ERROR (V4L2_EVENT_PRIVATE_START + 1)

/* The u.data of that event. */
struct minivmm_params_error {
	/* The sequence number of the buffer, and of its frame. */
	__u32 sequence;
	/* MINIVMM_PARAMS_ERROR_*. */
	__u32 reason;
	/* The type of the block. 0 means the buffer's header. */
	__u32 type;
	/* Offset of the block in the buffer, in bytes. */
	__u32 block;
	/* Offset of the invalid field in the buffer, in bytes. */
	__u32 offset;
};

/*
 * The two headers and the flags equal struct v4l2_isp_params_buffer and struct
 * v4l2_isp_params_block_header, which Linux has since 6.19
 * (linux/media/v4l2-isp.h).
 */
struct minivmm_params_buffer {
	/* MINIVMM_PARAMS_VERSION. */
	__u32 version;
	/* Bytes of the blocks. */
	__u32 data_size;
	/* The blocks, one after the other. */
	__u8 data[];
};

struct minivmm_params_block_header {
	/* enum minivmm_params_block_type. */
	__u16 type;
	/* MINIVMM_PARAMS_FL_BLOCK_*. */
	__u16 flags;
	/* Bytes of the block, including this header. */
	__u32 size;
} __attribute__((aligned(8)));

/* version of a buffer of statistics. */
#define MINIVMM_STATS_VERSION 1
/* version of a buffer of parameters. 0 means the same. */
#define MINIVMM_PARAMS_VERSION 1
/* Bytes of a buffer with all blocks of parameters, including the header. */
#define MINIVMM_PARAMS_MAX_SIZE 2584
/* The stage does nothing. The block can end after its header. */
#define MINIVMM_PARAMS_FL_BLOCK_DISABLE 1
/* The block sets the stage. A block without flags does the same. */
#define MINIVMM_PARAMS_FL_BLOCK_ENABLE 2
/* The version is unknown. */
#define MINIVMM_PARAMS_ERROR_VERSION 1
/* data_size is larger than the buffer or than PARAMS_MAX_SIZE. */
#define MINIVMM_PARAMS_ERROR_DATA_SIZE 2
/* A block does not fit in the rest of data_size. */
#define MINIVMM_PARAMS_ERROR_TRUNCATED 3
/* The type of a block is unknown. */
#define MINIVMM_PARAMS_ERROR_TYPE 4
/* A flag is unknown, or both flags are set. */
#define MINIVMM_PARAMS_ERROR_FLAGS 5
/* The size is wrong for a block of this type. */
#define MINIVMM_PARAMS_ERROR_SIZE 6
/* The buffer already has a block of this type. */
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

/* The first stage subtracts the black level from each sample. */
struct minivmm_params_black_level {
	struct minivmm_params_block_header header;
	/* For each channel, in linear values. */
	__u16 level[4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_black_level) == 16, "no padding");

/* A sample is a defect if it is above the largest of its eight neighbours of the same colour, or below the smallest, by more than threshold. That neighbour replaces it. */
struct minivmm_params_defect_pixel {
	struct minivmm_params_block_header header;
	/* In linear values. */
	__u16 threshold;
	/* 0. */
	__u16 reserved[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_defect_pixel) == 16, "no padding");

/* Compensation for lens shading: gains at the points of a mesh, linear between the points. The first and last lines and columns of the mesh lie on the edges of the frame. */
struct minivmm_params_lens_shading {
	struct minivmm_params_block_header header;
	/* Line by line, from left to right, for each channel, in steps of 1/16384. */
	__u16 gain[17][17][4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_lens_shading) == 2320, "no padding");

/* The range for balanced in the statistics. A quad counts if all four samples are from min to max, inclusive. */
struct minivmm_params_awb_range {
	struct minivmm_params_block_header header;
	/* In linear values. */
	__u16 min;
	/* In linear values. A quad with a sample above it counts as saturated. */
	__u16 max;
	/* 0. */
	__u16 reserved[2];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_awb_range) == 16, "no padding");

/* Gains that multiply the samples. */
struct minivmm_params_white_balance {
	struct minivmm_params_block_header header;
	/* For each channel, in steps of 1/16384. */
	__u16 gain[4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_white_balance) == 16, "no padding");

/* Converts the sensor's colours to those of the picture: coefficients, then offsets. */
struct minivmm_params_colour_matrix {
	struct minivmm_params_block_header header;
	/* One row each for red, green and blue of the picture, with the factors of the sensor's red, green and blue, in steps of 1/4096. */
	__s16 coefficient[3][3];
	/* Added to red, green and blue after that, in linear values. */
	__s16 offset[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_colour_matrix) == 32, "no padding");

/* The coded value for each linear value: points, with straight lines between them. */
struct minivmm_params_tone_curve {
	struct minivmm_params_block_header header;
	/* In coded values, at the linear values 0 to 512 in steps of 32, up to 2560 in steps of 128, up to 16384 in steps of 512. */
	__u16 point[60];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_tone_curve) == 128, "no padding");

/* Noise reduction and sharpening. The difference between a pixel's luma and that of its surroundings counts as noise up to threshold, and as detail beyond it. */
struct minivmm_params_detail {
	struct minivmm_params_block_header header;
	/* In coded values. */
	__u16 threshold;
	/* The part of the noise that is removed, in steps of 1/32768. */
	__u16 denoise;
	/* The amount of detail that is added, in steps of 1/16384. */
	__u16 sharpen;
	/* The largest change of a pixel, in coded values. */
	__u16 limit;
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_detail) == 16, "no padding");

/* Multiplies all colours. The gain is applied to the colour matrix, whose coefficients are limited to 8. */
struct minivmm_params_digital_gain {
	struct minivmm_params_block_header header;
	/* In steps of 1/256. */
	__u16 gain;
	/* 0. */
	__u16 reserved[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct minivmm_params_digital_gain) == 16, "no padding");

/* The statistics of a zone. A quad is a red, two green and a blue pixel. Its luma is (R + 2 G + B) / 4. */
struct minivmm_stats_zone {
	/* Sum of the quads' luma, in linear values. */
	__u64 luma;
	/* Sums over the balanced quads: red, the mean of both greens, blue. */
	__u64 balanced[3];
	/* Sum over the quads: the square of the difference between the luma of the left and of the right neighbour, in steps of 16. */
	__u64 focus;
	/* Number of quads. */
	__u32 quads;
	/* Number of quads whose four samples are in the range of the block AWB_RANGE. */
	__u32 balanced_quads;
	/* Number of quads with a sample above that range. */
	__u32 saturated_quads;
	/* 0. */
	__u32 reserved;
};

_Static_assert(sizeof(struct minivmm_stats_zone) == 56, "no padding");

/* Statistics of a frame: the measurements, and the settings that the frame was made with. */
struct minivmm_stats_buffer {
	/* MINIVMM_STATS_VERSION. */
	__u32 version;
	/* Bytes of this structure. */
	__u32 size;
	/* Sequence number of the frame, the same as in CH_DONE_SEQUENCE. */
	__u32 sequence;
	/* Sequence number of the first frame made with the parameters in force; all ones if none were accepted since the sensor started. */
	__u32 params_sequence;
	/* Start of frame, in nanoseconds since the sensor started. */
	__u64 timestamp;
	/* Exposure time of the sensor, in nanoseconds. */
	__u32 exposure;
	/* The sensor's analogue gain, in steps of 1/256. */
	__u32 analogue_gain;
	/* The sensor's digital gain, in steps of 1/256. */
	__u32 digital_gain;
	/* 0. */
	__u32 reserved;
	/* The ISP's gain of each channel, in steps of 1/16384. */
	__u16 white_balance[4];
	/* Number of quads by luma, in steps of 64 linear values. */
	__u32 histogram[256];
	/* The zones of the frame, line by line. */
	struct minivmm_stats_zone zone[15][15];
};

_Static_assert(sizeof(struct minivmm_stats_buffer) == 13672, "no padding");

#endif
