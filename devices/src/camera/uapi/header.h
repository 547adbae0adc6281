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

