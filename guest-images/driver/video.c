// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls of the capture nodes. formats.c has the formats.
 */

#include <linux/module.h>
#include <linux/string.h>
#include <media/v4l2-common.h>
#include <media/v4l2-event.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-ioctl.h>

#include "minivmm-camera.h"

static bool multiplanar;
module_param(multiplanar, bool, 0444);
MODULE_PARM_DESC(multiplanar, "Use the multi-planar API, with the additional formats NV12M and YUV420M (default: N)");

/* The first one is the default. All are in the core's table of formats. */
static const struct mcam_format mcam_processed_formats[] = {
	{ V4L2_PIX_FMT_YUYV },
	{ V4L2_PIX_FMT_UYVY },
	{ V4L2_PIX_FMT_NV12 },
	{ V4L2_PIX_FMT_NV16 },
	{ V4L2_PIX_FMT_YUV420 },
	{ V4L2_PIX_FMT_RGB24 },
	{ V4L2_PIX_FMT_BGR24 },
	{ V4L2_PIX_FMT_XRGB32 },
	{ V4L2_PIX_FMT_XBGR32 },
	{ V4L2_PIX_FMT_GREY },
	/* Only for the multi-planar API. */
	{ V4L2_PIX_FMT_NV12M, .contiguous = V4L2_PIX_FMT_NV12 },
	{ V4L2_PIX_FMT_YUV420M, .contiguous = V4L2_PIX_FMT_YUV420 },
};

/* The first format with a bus code is the default for that code. */
static const struct mcam_format mcam_raw_formats[] = {
	{ V4L2_PIX_FMT_SRGGB8, MEDIA_BUS_FMT_SRGGB8_1X8, 8 },
	{ V4L2_PIX_FMT_SGRBG8, MEDIA_BUS_FMT_SGRBG8_1X8, 8 },
	{ V4L2_PIX_FMT_SGBRG8, MEDIA_BUS_FMT_SGBRG8_1X8, 8 },
	{ V4L2_PIX_FMT_SBGGR8, MEDIA_BUS_FMT_SBGGR8_1X8, 8 },
	{ V4L2_PIX_FMT_SRGGB10, MEDIA_BUS_FMT_SRGGB10_1X10, 16 },
	{ V4L2_PIX_FMT_SGRBG10, MEDIA_BUS_FMT_SGRBG10_1X10, 16 },
	{ V4L2_PIX_FMT_SGBRG10, MEDIA_BUS_FMT_SGBRG10_1X10, 16 },
	{ V4L2_PIX_FMT_SBGGR10, MEDIA_BUS_FMT_SBGGR10_1X10, 16 },
	{ V4L2_PIX_FMT_SRGGB12, MEDIA_BUS_FMT_SRGGB12_1X12, 16 },
	{ V4L2_PIX_FMT_SGRBG12, MEDIA_BUS_FMT_SGRBG12_1X12, 16 },
	{ V4L2_PIX_FMT_SGBRG12, MEDIA_BUS_FMT_SGBRG12_1X12, 16 },
	{ V4L2_PIX_FMT_SBGGR12, MEDIA_BUS_FMT_SBGGR12_1X12, 16 },
	{ V4L2_PIX_FMT_SRGGB10P, MEDIA_BUS_FMT_SRGGB10_1X10, 10 },
	{ V4L2_PIX_FMT_SGRBG10P, MEDIA_BUS_FMT_SGRBG10_1X10, 10 },
	{ V4L2_PIX_FMT_SGBRG10P, MEDIA_BUS_FMT_SGBRG10_1X10, 10 },
	{ V4L2_PIX_FMT_SBGGR10P, MEDIA_BUS_FMT_SBGGR10_1X10, 10 },
	{ V4L2_PIX_FMT_SRGGB12P, MEDIA_BUS_FMT_SRGGB12_1X12, 12 },
	{ V4L2_PIX_FMT_SGRBG12P, MEDIA_BUS_FMT_SGRBG12_1X12, 12 },
	{ V4L2_PIX_FMT_SGBRG12P, MEDIA_BUS_FMT_SGBRG12_1X12, 12 },
	{ V4L2_PIX_FMT_SBGGR12P, MEDIA_BUS_FMT_SBGGR12_1X12, 12 },
};

static const struct {
	const char *name;
	const struct mcam_format *formats;
	unsigned int num_formats;
} mcam_nodes[] = {
	[MINIVMM_CAM_CHANNEL_PROCESSED] = {
		"minivmm capture", mcam_processed_formats,
		ARRAY_SIZE(mcam_processed_formats),
	},
	[MINIVMM_CAM_CHANNEL_RAW] = {
		"minivmm raw capture", mcam_raw_formats,
		ARRAY_SIZE(mcam_raw_formats),
	},
};

static_assert(ARRAY_SIZE(mcam_nodes) == MCAM_CAPTURE_NODES);

static int mcam_querycap(struct file *file, void *fh,
			 struct v4l2_capability *cap)
{
	strscpy(cap->driver, MCAM_NAME, sizeof(cap->driver));
	strscpy(cap->card, MCAM_CARD, sizeof(cap->card));
	return 0;
}

static int mcam_enum_fmt(struct file *file, void *fh, struct v4l2_fmtdesc *f)
{
	struct mcam_node *node = video_drvdata(file);

	if (f->index >= node->num_formats)
		return -EINVAL;
	f->pixelformat = node->formats[f->index].pixelformat;
	return 0;
}

/* A queue supports one of the two APIs. */
static bool mcam_is_of_queue(struct mcam_node *node, const struct v4l2_format *f)
{
	return f->type == node->vbq.type;
}

/* Returns a format in the API of the program. */
static void mcam_tell_format(struct v4l2_format *f,
			     const struct v4l2_pix_format *pix)
{
	struct v4l2_pix_format_mplane *mp = &f->fmt.pix_mp;
	struct mcam_plane planes[MCAM_MAX_PLANES];
	unsigned int i;

	if (!V4L2_TYPE_IS_MULTIPLANAR(f->type)) {
		f->fmt.pix = *pix;
		return;
	}
	*mp = (struct v4l2_pix_format_mplane){
		.width = pix->width,
		.height = pix->height,
		.pixelformat = pix->pixelformat,
		.field = pix->field,
		.colorspace = pix->colorspace,
		.ycbcr_enc = pix->ycbcr_enc,
		.quantization = pix->quantization,
		.xfer_func = pix->xfer_func,
		.num_planes = mcam_mem_planes(pix->pixelformat),
	};
	mp->plane_fmt[0].bytesperline = pix->bytesperline;
	mp->plane_fmt[0].sizeimage = pix->sizeimage;
	mcam_find_planes(pix, planes);
	for (i = 0; mp->num_planes > 1 && i < mp->num_planes; i++) {
		mp->plane_fmt[i].bytesperline = planes[i].stride;
		mp->plane_fmt[i].sizeimage = planes[i].bytes;
	}
}

/* The fields of the requested format that a program can choose. */
static struct v4l2_pix_format mcam_asked_format(const struct v4l2_format *f)
{
	const struct v4l2_pix_format_mplane *mp = &f->fmt.pix_mp;

	if (!V4L2_TYPE_IS_MULTIPLANAR(f->type))
		return f->fmt.pix;
	return (struct v4l2_pix_format){
		.width = mp->width,
		.height = mp->height,
		.pixelformat = mp->pixelformat,
	};
}

static int mcam_g_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	struct mcam_node *node = video_drvdata(file);

	if (!mcam_is_of_queue(node, f))
		return -EINVAL;
	mcam_tell_format(f, &node->format);
	return 0;
}

/*
 * If no program uses the raw node, the sensor follows the format of the processed
 * node, as in a plain camera. Otherwise a processed frame cannot be larger than
 * the ISP's crop.
 */
static bool mcam_takes_sensor(struct mcam_node *node)
{
	return mcam_is_scaled(node) && !vb2_is_busy(&mcam_raw(node->cam)->vbq);
}

static int mcam_try_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	struct v4l2_pix_format pix = mcam_asked_format(f);
	struct mcam_node *node = video_drvdata(file);

	if (!mcam_is_of_queue(node, f))
		return -EINVAL;
	mcam_adjust_format(node, &pix,
			   mcam_is_scaled(node) && !mcam_takes_sensor(node) ?
			   &node->cam->crop : NULL);
	mcam_tell_format(f, &pix);
	return 0;
}

static int mcam_take_sensor(struct mcam *cam,
			    const struct v4l2_frmsize_discrete *size)
{
	struct mcam_node *raw = mcam_raw(cam);
	struct v4l2_pix_format before = raw->format;
	int ret;

	ret = mcam_set_format(raw, before.pixelformat, size->width,
			      size->height);
	if (ret)
		return ret;
	cam->crop = (struct v4l2_rect){ 0, 0, size->width, size->height };
	if (raw->format.width != before.width ||
	    raw->format.height != before.height)
		mcam_source_changed(raw);
	return 0;
}

/* Enlarges the sensor's frames first, and shrinks them last. */
static int mcam_set_format_and_sensor(struct mcam_node *node, u32 pixelformat,
				      u32 width, u32 height)
{
	const struct v4l2_frmsize_discrete *size;
	struct mcam *cam = node->cam;
	int ret;

	size = mcam_nearest_size(cam, width, height, NULL);
	if (size->width == node->format.width &&
	    size->height == node->format.height)
		return mcam_set_format(node, pixelformat, width, height);
	if (size->width < node->format.width) {
		ret = mcam_set_format(node, pixelformat, width, height);
		return ret ?: mcam_take_sensor(cam, size);
	}
	ret = mcam_take_sensor(cam, size);
	return ret ?: mcam_set_format(node, pixelformat, width, height);
}

static int mcam_s_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	struct mcam_node *node = video_drvdata(file);
	struct v4l2_pix_format pix = mcam_asked_format(f);
	int ret;

	if (!mcam_is_of_queue(node, f))
		return -EINVAL;
	if (vb2_is_busy(&node->vbq))
		return -EBUSY;
	if (mcam_takes_sensor(node))
		ret = mcam_set_format_and_sensor(node, pix.pixelformat,
						 pix.width, pix.height);
	else
		ret = mcam_set_format(node, pix.pixelformat, pix.width,
				      pix.height);
	if (!ret)
		mcam_tell_format(f, &node->format);
	return ret;
}

static int mcam_enum_framesizes(struct file *file, void *fh,
				struct v4l2_frmsizeenum *f)
{
	struct mcam_node *node = video_drvdata(file);

	if (f->index >= node->cam->num_sizes ||
	    !mcam_find_format(node, f->pixel_format))
		return -EINVAL;
	f->type = V4L2_FRMSIZE_TYPE_DISCRETE;
	f->discrete = node->cam->sizes[f->index];
	return 0;
}

static int mcam_enum_frameintervals(struct file *file, void *fh,
				    struct v4l2_frmivalenum *f)
{
	struct mcam_node *node = video_drvdata(file);
	struct mcam *cam = node->cam;

	if (f->index || !mcam_find_format(node, f->pixel_format) ||
	    !mcam_has_size(cam, f->width, f->height))
		return -EINVAL;
	f->type = V4L2_FRMIVAL_TYPE_CONTINUOUS;
	mcam_interval_limits(cam, f->height, &f->stepwise.min,
			     &f->stepwise.max);
	f->stepwise.step = (struct v4l2_fract){ 1, 1 };
	return 0;
}

static int mcam_g_parm(struct file *file, void *fh, struct v4l2_streamparm *a)
{
	struct mcam_node *node = video_drvdata(file);

	if (a->type != node->vbq.type)
		return -EINVAL;
	memset(&a->parm, 0, sizeof(a->parm));
	a->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
	a->parm.capture.timeperframe = mcam_interval(node->cam);
	a->parm.capture.readbuffers = 2;
	return 0;
}

/* All nodes share the interval. */
static int mcam_s_parm(struct file *file, void *fh, struct v4l2_streamparm *a)
{
	struct mcam_node *node = video_drvdata(file);
	int ret;

	if (a->type != node->vbq.type)
		return -EINVAL;
	ret = mcam_set_interval(node->cam, a->parm.capture.timeperframe);
	if (ret)
		return ret;
	return mcam_g_parm(file, fh, a);
}

static int mcam_enum_input(struct file *file, void *fh, struct v4l2_input *i)
{
	if (i->index)
		return -EINVAL;
	i->type = V4L2_INPUT_TYPE_CAMERA;
	strscpy(i->name, "Camera", sizeof(i->name));
	return 0;
}

static int mcam_g_input(struct file *file, void *fh, unsigned int *i)
{
	*i = 0;
	return 0;
}

static int mcam_s_input(struct file *file, void *fh, unsigned int i)
{
	return i ? -EINVAL : 0;
}

static int mcam_subscribe_event(struct v4l2_fh *fh,
				const struct v4l2_event_subscription *sub)
{
	if (sub->type == V4L2_EVENT_SOURCE_CHANGE)
		return v4l2_src_change_event_subscribe(fh, sub);
	return v4l2_ctrl_subscribe_event(fh, sub);
}

static const struct v4l2_ioctl_ops mcam_ioctl_ops = {
	.vidioc_querycap = mcam_querycap,
	.vidioc_enum_fmt_vid_cap = mcam_enum_fmt,
	.vidioc_g_fmt_vid_cap = mcam_g_fmt,
	.vidioc_try_fmt_vid_cap = mcam_try_fmt,
	.vidioc_s_fmt_vid_cap = mcam_s_fmt,
	.vidioc_g_fmt_vid_cap_mplane = mcam_g_fmt,
	.vidioc_try_fmt_vid_cap_mplane = mcam_try_fmt,
	.vidioc_s_fmt_vid_cap_mplane = mcam_s_fmt,
	.vidioc_enum_framesizes = mcam_enum_framesizes,
	.vidioc_enum_frameintervals = mcam_enum_frameintervals,
	.vidioc_g_parm = mcam_g_parm,
	.vidioc_s_parm = mcam_s_parm,
	.vidioc_enum_input = mcam_enum_input,
	.vidioc_g_input = mcam_g_input,
	.vidioc_s_input = mcam_s_input,
	.vidioc_reqbufs = vb2_ioctl_reqbufs,
	.vidioc_create_bufs = vb2_ioctl_create_bufs,
	.vidioc_prepare_buf = vb2_ioctl_prepare_buf,
	.vidioc_querybuf = vb2_ioctl_querybuf,
	.vidioc_qbuf = vb2_ioctl_qbuf,
	.vidioc_dqbuf = vb2_ioctl_dqbuf,
	.vidioc_expbuf = vb2_ioctl_expbuf,
	.vidioc_streamon = vb2_ioctl_streamon,
	.vidioc_streamoff = vb2_ioctl_streamoff,
	.vidioc_log_status = v4l2_ctrl_log_status,
	.vidioc_subscribe_event = mcam_subscribe_event,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

static const struct v4l2_file_operations mcam_fops = {
	.owner = THIS_MODULE,
	.open = v4l2_fh_open,
	.release = vb2_fop_release,
	.read = vb2_fop_read,
	.poll = vb2_fop_poll,
	.mmap = vb2_fop_mmap,
	.unlocked_ioctl = video_ioctl2,
};

static int mcam_node_init(struct mcam_node *node)
{
	struct video_device *vdev = &node->vdev;
	int ret;

	node->formats = mcam_nodes[node->channel].formats;
	node->num_formats = mcam_nodes[node->channel].num_formats;
	while (!multiplanar && node->formats[node->num_formats - 1].contiguous)
		node->num_formats--;
	node->format.width = 640;
	node->format.height = 480;
	mcam_adjust_format(node, &node->format, NULL);
	mcam_init_planes(node);
	/* One buffer in work and one pending. */
	ret = mcam_queue_init(node, multiplanar ?
			      V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE :
			      V4L2_BUF_TYPE_VIDEO_CAPTURE,
			      VB2_MMAP | VB2_DMABUF | VB2_READ, 2);
	if (ret)
		return ret;

	strscpy(vdev->name, mcam_nodes[node->channel].name, sizeof(vdev->name));
	vdev->fops = &mcam_fops;
	vdev->ioctl_ops = &mcam_ioctl_ops;
	vdev->release = video_device_release_empty;
	vdev->device_caps = (multiplanar ? V4L2_CAP_VIDEO_CAPTURE_MPLANE :
					   V4L2_CAP_VIDEO_CAPTURE) |
			    V4L2_CAP_STREAMING | V4L2_CAP_READWRITE |
			    V4L2_CAP_EXT_PIX_FORMAT;
	vdev->v4l2_dev = &node->cam->v4l2_dev;
	vdev->ctrl_handler = &node->cam->ctrls;
	vdev->queue = &node->vbq;
	vdev->lock = &node->cam->lock;
	video_set_drvdata(vdev, node);

	node->pad.flags = MEDIA_PAD_FL_SINK;
	return media_entity_pads_init(&vdev->entity, 1, &node->pad);
}

/* The device is in its reset state, so its registers contain the defaults. */
int mcam_video_init(struct mcam *cam)
{
	unsigned int i;
	int ret;

	ret = mcam_init_sizes(cam);
	if (ret)
		return ret;
	for (i = 0; i < MCAM_CAPTURE_NODES; i++) {
		ret = mcam_node_init(&cam->nodes[i]);
		if (ret)
			return ret;
	}
	cam->crop.width = mcam_raw(cam)->format.width;
	cam->crop.height = mcam_raw(cam)->format.height;
	return 0;
}

/* The processed node comes first, so that plain programs find it as /dev/video0. */
int mcam_nodes_register(struct mcam *cam)
{
	unsigned int i;
	int ret;

	for (i = 0; i < cam->num_nodes; i++) {
		ret = video_register_device(&cam->nodes[i].vdev, VFL_TYPE_VIDEO,
					    -1);
		if (ret)
			return ret;
	}
	return 0;
}
