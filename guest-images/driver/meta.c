// SPDX-License-Identifier: GPL-2.0-only
/*
 * The nodes of the ISP's metadata: statistics of each processed frame, and
 * parameters. The device checks the content of a buffer of parameters; see
 * minivmm-camera-meta.h.
 */

#include <linux/module.h>
#include <linux/string.h>
#include <linux/version.h>
#include <media/v4l2-event.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-ioctl.h>

#include "minivmm-camera.h"
#include "minivmm-camera-meta.h"

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#include <linux/media/v4l2-isp.h>

static_assert(sizeof(struct minivmm_params_buffer) ==
	      sizeof(struct v4l2_isp_params_buffer));
static_assert(sizeof(struct minivmm_params_block_header) ==
	      sizeof(struct v4l2_isp_params_block_header));
static_assert(MINIVMM_PARAMS_VERSION == V4L2_ISP_PARAMS_VERSION_V1);
#endif

static const struct {
	const char *name;
	const char *description;
	u32 dataformat;
	u32 buffersize;
	u32 device_caps;
	enum v4l2_buf_type type;
	unsigned long pad_flags;
} mcam_meta_nodes[] = {
	[MINIVMM_CAM_CHANNEL_STATISTICS] = {
		.name = "minivmm statistics",
		.description = "minivmm ISP Statistics",
		.dataformat = V4L2_META_FMT_MINIVMM_STATS,
		.buffersize = sizeof(struct minivmm_stats_buffer),
		.device_caps = V4L2_CAP_META_CAPTURE | V4L2_CAP_STREAMING,
		.type = V4L2_BUF_TYPE_META_CAPTURE,
		.pad_flags = MEDIA_PAD_FL_SINK,
	},
	[MINIVMM_CAM_CHANNEL_PARAMS] = {
		.name = "minivmm parameters",
		.description = "minivmm ISP Parameters",
		.dataformat = V4L2_META_FMT_MINIVMM_PARAMS,
		.buffersize = MINIVMM_PARAMS_MAX_SIZE,
		.device_caps = V4L2_CAP_META_OUTPUT | V4L2_CAP_STREAMING,
		.type = V4L2_BUF_TYPE_META_OUTPUT,
		.pad_flags = MEDIA_PAD_FL_SOURCE,
	},
};

static_assert(ARRAY_SIZE(mcam_meta_nodes) == MINIVMM_CAM_CHANNELS);

static int mcam_meta_querycap(struct file *file, void *fh,
			      struct v4l2_capability *cap)
{
	strscpy(cap->driver, MCAM_NAME, sizeof(cap->driver));
	strscpy(cap->card, MCAM_CARD, sizeof(cap->card));
	return 0;
}

static int mcam_meta_enum_fmt(struct file *file, void *fh,
			      struct v4l2_fmtdesc *f)
{
	struct mcam_node *node = video_drvdata(file);

	if (f->index)
		return -EINVAL;
	f->pixelformat = mcam_meta_nodes[node->channel].dataformat;
	/* The core's table of formats lacks device-specific formats. */
	strscpy(f->description, mcam_meta_nodes[node->channel].description,
		sizeof(f->description));
	return 0;
}

/* The node has one format: get, try and set are the same. */
static int mcam_meta_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	struct mcam_node *node = video_drvdata(file);
	struct v4l2_meta_format *meta = &f->fmt.meta;

	memset(meta, 0, sizeof(*meta));
	meta->dataformat = mcam_meta_nodes[node->channel].dataformat;
	meta->buffersize = mcam_meta_nodes[node->channel].buffersize;
	return 0;
}

static int mcam_meta_subscribe_event(struct v4l2_fh *fh,
				     const struct v4l2_event_subscription *sub)
{
	struct mcam_node *node = video_get_drvdata(fh->vdev);

	if (sub->type == V4L2_EVENT_MINIVMM_PARAMS_ERROR && !sub->id &&
	    node->channel == MINIVMM_CAM_CHANNEL_PARAMS)
		return v4l2_event_subscribe(fh, sub, 4, NULL);
	return -EINVAL;
}

static const struct v4l2_ioctl_ops mcam_meta_ioctl_ops = {
	.vidioc_querycap = mcam_meta_querycap,
	.vidioc_enum_fmt_meta_cap = mcam_meta_enum_fmt,
	.vidioc_g_fmt_meta_cap = mcam_meta_fmt,
	.vidioc_try_fmt_meta_cap = mcam_meta_fmt,
	.vidioc_s_fmt_meta_cap = mcam_meta_fmt,
	.vidioc_enum_fmt_meta_out = mcam_meta_enum_fmt,
	.vidioc_g_fmt_meta_out = mcam_meta_fmt,
	.vidioc_try_fmt_meta_out = mcam_meta_fmt,
	.vidioc_s_fmt_meta_out = mcam_meta_fmt,
	.vidioc_reqbufs = vb2_ioctl_reqbufs,
	.vidioc_create_bufs = vb2_ioctl_create_bufs,
	.vidioc_prepare_buf = vb2_ioctl_prepare_buf,
	.vidioc_querybuf = vb2_ioctl_querybuf,
	.vidioc_qbuf = vb2_ioctl_qbuf,
	.vidioc_dqbuf = vb2_ioctl_dqbuf,
	.vidioc_expbuf = vb2_ioctl_expbuf,
	.vidioc_streamon = vb2_ioctl_streamon,
	.vidioc_streamoff = vb2_ioctl_streamoff,
	.vidioc_subscribe_event = mcam_meta_subscribe_event,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

static const struct v4l2_file_operations mcam_meta_fops = {
	.owner = THIS_MODULE,
	.open = v4l2_fh_open,
	.release = vb2_fop_release,
	.poll = vb2_fop_poll,
	.mmap = vb2_fop_mmap,
	.unlocked_ioctl = video_ioctl2,
};

static int mcam_meta_node_init(struct mcam_node *node)
{
	struct video_device *vdev = &node->vdev;
	int ret;

	node->format.pixelformat = mcam_meta_nodes[node->channel].dataformat;
	node->format.sizeimage = mcam_meta_nodes[node->channel].buffersize;
	node->planes[0].bytes = node->format.sizeimage;
	node->fourcc = node->format.pixelformat;
	node->num_planes = 1;
	node->mem_planes = 1;
	/* Metadata can stream without buffers: no frame needs them. */
	ret = mcam_queue_init(node, mcam_meta_nodes[node->channel].type,
			      VB2_MMAP | VB2_DMABUF, 0);
	if (ret)
		return ret;

	strscpy(vdev->name, mcam_meta_nodes[node->channel].name,
		sizeof(vdev->name));
	vdev->fops = &mcam_meta_fops;
	vdev->ioctl_ops = &mcam_meta_ioctl_ops;
	vdev->release = video_device_release_empty;
	vdev->device_caps = mcam_meta_nodes[node->channel].device_caps;
	if (V4L2_TYPE_IS_OUTPUT(node->vbq.type))
		vdev->vfl_dir = VFL_DIR_TX;
	vdev->v4l2_dev = &node->cam->v4l2_dev;
	vdev->queue = &node->vbq;
	vdev->lock = &node->cam->lock;
	video_set_drvdata(vdev, node);

	node->pad.flags = mcam_meta_nodes[node->channel].pad_flags;
	return media_entity_pads_init(&vdev->entity, 1, &node->pad);
}

/* Without an ISP there are no such nodes. */
int mcam_meta_init(struct mcam *cam)
{
	unsigned int i;
	int ret;

	for (i = MCAM_CAPTURE_NODES; i < cam->num_nodes; i++) {
		ret = mcam_meta_node_init(&cam->nodes[i]);
		if (ret)
			return ret;
	}
	return 0;
}
