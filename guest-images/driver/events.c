// SPDX-License-Identifier: GPL-2.0-only
/*
 * Events for programs.
 */

#include <media/v4l2-event.h>

#include "minivmm-camera.h"
#include "minivmm-camera-meta.h"

/* Sends an event with the error in a buffer of parameters. */
void mcam_params_error(struct mcam_node *node, u32 sequence, u32 error)
{
	struct v4l2_event event = {
		.type = V4L2_EVENT_MINIVMM_PARAMS_ERROR,
	};
	struct minivmm_params_error *what = (void *)event.u.data;

	static_assert(sizeof(*what) <= sizeof(event.u.data));
	*what = (struct minivmm_params_error){
		.sequence = sequence,
		.reason = error >> 16,
		.type = error & 0xffff,
		.block = mcam_node_read(node, MINIVMM_CAM_CH_DONE_ERROR_BLOCK),
		.offset = mcam_node_read(node, MINIVMM_CAM_CH_DONE_ERROR_OFFSET),
	};
	v4l2_event_queue(&node->vdev, &event);
}

/* Called by the interrupt handler at the start of each frame. */
void mcam_frame_sync(struct mcam *cam, u32 sequence)
{
	struct v4l2_event event = {
		.type = V4L2_EVENT_FRAME_SYNC,
		.u.frame_sync.frame_sequence = sequence,
	};

	v4l2_event_queue(cam->sensor.devnode, &event);
}

/* Another node, or a sub-device, changed the node's format. */
void mcam_source_changed(struct mcam_node *node)
{
	static const struct v4l2_event event = {
		.type = V4L2_EVENT_SOURCE_CHANGE,
		.u.src_change.changes = V4L2_EVENT_SRC_CH_RESOLUTION,
	};

	v4l2_event_queue(&node->vdev, &event);
}
