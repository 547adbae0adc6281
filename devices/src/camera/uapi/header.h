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

