// SPDX-License-Identifier: GPL-2.0-only
/*
 * The capture node as programs see it: formats, ioctls and the control.
 */

#include <linux/module.h>
#include <linux/string.h>
#include <media/v4l2-common.h>
#include <media/v4l2-event.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-ioctl.h>

#include "minivmm-camera.h"

/* The first one is the default. All are told by the core's table of formats. */
static const u32 mcam_formats[] = {
	V4L2_PIX_FMT_YUYV,
	V4L2_PIX_FMT_UYVY,
	V4L2_PIX_FMT_NV12,
	V4L2_PIX_FMT_RGB24,
	V4L2_PIX_FMT_BGR24,
	V4L2_PIX_FMT_XRGB32,
	V4L2_PIX_FMT_XBGR32,
	V4L2_PIX_FMT_GREY,
	V4L2_PIX_FMT_SRGGB8,
	V4L2_PIX_FMT_SGRBG8,
	V4L2_PIX_FMT_SGBRG8,
	V4L2_PIX_FMT_SBGGR8,
};

/* Ascending in both directions: what a device can do of them is a stretch. */
static const struct v4l2_frmsize_discrete mcam_sizes[] = {
	{ 160, 120 },
	{ 320, 240 },
	{ 640, 480 },
	{ 800, 600 },
	{ 1280, 720 },
	{ 1920, 1080 },
	{ 2560, 1440 },
	{ 3840, 2160 },
};

static const char * const mcam_patterns[] = {
	[MINIVMM_CAM_PATTERN_BARS] = "Colour Bars",
	[MINIVMM_CAM_PATTERN_GRADIENT] = "Gradients",
	[MINIVMM_CAM_PATTERN_CHECKER] = "Checkerboard",
	[MINIVMM_CAM_PATTERN_BOX] = "Moving Box",
	[MINIVMM_CAM_PATTERN_ZONE_PLATE] = "Zone Plate",
	[MINIVMM_CAM_PATTERN_NOISE] = "Noise",
	[MINIVMM_CAM_PATTERN_FLAT] = "Flat Field",
};

static_assert(ARRAY_SIZE(mcam_patterns) == MINIVMM_CAM_PATTERN_COUNT);

static bool mcam_has_format(u32 pixelformat)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mcam_formats); i++)
		if (mcam_formats[i] == pixelformat)
			return true;
	return false;
}

static bool mcam_has_size(struct mcam *cam, u32 width, u32 height)
{
	unsigned int i;

	for (i = 0; i < cam->num_sizes; i++)
		if (cam->sizes[i].width == width &&
		    cam->sizes[i].height == height)
			return true;
	return false;
}

/* Makes of @pix the nearest that the device can do. */
static void mcam_adjust_format(struct mcam *cam, struct v4l2_pix_format *pix)
{
	const struct v4l2_frmsize_discrete *largest, *size;
	u32 pixelformat = pix->pixelformat;

	if (!mcam_has_format(pixelformat))
		pixelformat = mcam_formats[0];
	largest = &cam->sizes[cam->num_sizes - 1];
	size = v4l2_find_nearest_size(cam->sizes, cam->num_sizes, width, height,
				      min(pix->width, largest->width),
				      min(pix->height, largest->height));
	v4l2_fill_pixfmt(pix, pixelformat, size->width, size->height);

	pix->field = V4L2_FIELD_NONE;
	pix->flags = 0;
	pix->colorspace = V4L2_COLORSPACE_SRGB;
	pix->xfer_func = V4L2_XFER_FUNC_SRGB;
	if (v4l2_is_format_yuv(v4l2_format_info(pixelformat))) {
		pix->ycbcr_enc = V4L2_YCBCR_ENC_601;
		pix->quantization = V4L2_QUANTIZATION_LIM_RANGE;
	} else {
		pix->ycbcr_enc = V4L2_YCBCR_ENC_DEFAULT;
		pix->quantization = V4L2_QUANTIZATION_FULL_RANGE;
	}
}

static int mcam_querycap(struct file *file, void *fh,
			 struct v4l2_capability *cap)
{
	strscpy(cap->driver, MCAM_NAME, sizeof(cap->driver));
	strscpy(cap->card, MCAM_CARD, sizeof(cap->card));
	return 0;
}

static int mcam_enum_fmt(struct file *file, void *fh, struct v4l2_fmtdesc *f)
{
	if (f->index >= ARRAY_SIZE(mcam_formats))
		return -EINVAL;
	f->pixelformat = mcam_formats[f->index];
	return 0;
}

static int mcam_g_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	struct mcam *cam = video_drvdata(file);

	f->fmt.pix = cam->format;
	return 0;
}

static int mcam_try_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	mcam_adjust_format(video_drvdata(file), &f->fmt.pix);
	return 0;
}

static int mcam_s_fmt(struct file *file, void *fh, struct v4l2_format *f)
{
	struct mcam *cam = video_drvdata(file);

	if (vb2_is_busy(&cam->vbq))
		return -EBUSY;
	mcam_adjust_format(cam, &f->fmt.pix);
	cam->format = f->fmt.pix;
	return 0;
}

static int mcam_enum_framesizes(struct file *file, void *fh,
				struct v4l2_frmsizeenum *f)
{
	struct mcam *cam = video_drvdata(file);

	if (f->index >= cam->num_sizes || !mcam_has_format(f->pixel_format))
		return -EINVAL;
	f->type = V4L2_FRMSIZE_TYPE_DISCRETE;
	f->discrete = cam->sizes[f->index];
	return 0;
}

static const struct v4l2_fract mcam_interval_min = {
	MINIVMM_CAM_FRAME_INTERVAL_MIN, USEC_PER_SEC
};

static const struct v4l2_fract mcam_interval_max = {
	MINIVMM_CAM_FRAME_INTERVAL_MAX, USEC_PER_SEC
};

static int mcam_enum_frameintervals(struct file *file, void *fh,
				    struct v4l2_frmivalenum *f)
{
	if (f->index || !mcam_has_format(f->pixel_format) ||
	    !mcam_has_size(video_drvdata(file), f->width, f->height))
		return -EINVAL;
	f->type = V4L2_FRMIVAL_TYPE_CONTINUOUS;
	f->stepwise.min = mcam_interval_min;
	f->stepwise.max = mcam_interval_max;
	f->stepwise.step = (struct v4l2_fract){ 1, 1 };
	return 0;
}

static int mcam_g_parm(struct file *file, void *fh, struct v4l2_streamparm *a)
{
	struct mcam *cam = video_drvdata(file);

	if (a->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return -EINVAL;
	memset(&a->parm, 0, sizeof(a->parm));
	a->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
	a->parm.capture.timeperframe = cam->interval;
	a->parm.capture.readbuffers = 2;
	return 0;
}

/* A fraction of zero asks for the nominal interval. */
static int mcam_s_parm(struct file *file, void *fh, struct v4l2_streamparm *a)
{
	struct mcam *cam = video_drvdata(file);
	struct v4l2_fract tpf;

	if (a->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return -EINVAL;
	tpf = a->parm.capture.timeperframe;
	if (!tpf.numerator || !tpf.denominator)
		tpf = cam->nominal_interval;
	if (V4L2_FRACT_COMPARE(tpf, <, mcam_interval_min))
		tpf = mcam_interval_min;
	if (V4L2_FRACT_COMPARE(tpf, >, mcam_interval_max))
		tpf = mcam_interval_max;
	cam->interval = tpf;
	mcam_program_interval(cam);
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

static const struct v4l2_ioctl_ops mcam_ioctl_ops = {
	.vidioc_querycap = mcam_querycap,
	.vidioc_enum_fmt_vid_cap = mcam_enum_fmt,
	.vidioc_g_fmt_vid_cap = mcam_g_fmt,
	.vidioc_try_fmt_vid_cap = mcam_try_fmt,
	.vidioc_s_fmt_vid_cap = mcam_s_fmt,
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
	.vidioc_subscribe_event = v4l2_ctrl_subscribe_event,
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

static int mcam_s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct mcam *cam = container_of(ctrl->handler, struct mcam, ctrls);

	/* TEST_PATTERN, the only control. */
	mcam_write(cam, MINIVMM_CAM_PATTERN, ctrl->val);
	return 0;
}

static const struct v4l2_ctrl_ops mcam_ctrl_ops = {
	.s_ctrl = mcam_s_ctrl,
};

static int mcam_init_ctrls(struct mcam *cam)
{
	u32 last = MINIVMM_CAM_PATTERN_COUNT - 1;
	u32 pattern = min(mcam_read(cam, MINIVMM_CAM_PATTERN), last);

	v4l2_ctrl_handler_init(&cam->ctrls, 1);
	v4l2_ctrl_new_std_menu_items(&cam->ctrls, &mcam_ctrl_ops,
				     V4L2_CID_TEST_PATTERN, last, 0, pattern,
				     mcam_patterns);
	return cam->ctrls.error;
}

static int mcam_init_sizes(struct mcam *cam)
{
	u32 min = mcam_read(cam, MINIVMM_CAM_SIZE_MIN);
	u32 max = mcam_read(cam, MINIVMM_CAM_SIZE_MAX);
	const struct v4l2_frmsize_discrete *size = mcam_sizes;
	const struct v4l2_frmsize_discrete *end = size + ARRAY_SIZE(mcam_sizes);

	for (; size < end; size++) {
		if (size->width < (min & 0xffff) || size->height < min >> 16 ||
		    size->width > (max & 0xffff) || size->height > max >> 16)
			continue;
		if (!cam->num_sizes)
			cam->sizes = size;
		cam->num_sizes++;
	}
	if (cam->num_sizes)
		return 0;
	dev_err(cam->dev, "no known size between %ux%u and %ux%u\n",
		min & 0xffff, min >> 16, max & 0xffff, max >> 16);
	return -ENODEV;
}

/* The device is in its reset state: what its registers hold is the default. */
int mcam_video_init(struct mcam *cam)
{
	struct video_device *vdev = &cam->vdev;
	int ret;

	ret = mcam_init_sizes(cam);
	if (ret)
		return ret;
	cam->format.width = 640;
	cam->format.height = 480;
	mcam_adjust_format(cam, &cam->format);

	cam->nominal_interval = (struct v4l2_fract){
		mcam_read(cam, MINIVMM_CAM_FRAME_INTERVAL), USEC_PER_SEC
	};
	cam->interval = cam->nominal_interval;

	ret = mcam_init_ctrls(cam);
	if (ret)
		return ret;

	strscpy(vdev->name, MCAM_NAME, sizeof(vdev->name));
	vdev->fops = &mcam_fops;
	vdev->ioctl_ops = &mcam_ioctl_ops;
	vdev->release = video_device_release_empty;
	vdev->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING |
			    V4L2_CAP_READWRITE | V4L2_CAP_EXT_PIX_FORMAT;
	vdev->v4l2_dev = &cam->v4l2_dev;
	vdev->ctrl_handler = &cam->ctrls;
	vdev->queue = &cam->vbq;
	vdev->lock = &cam->lock;
	video_set_drvdata(vdev, cam);

	cam->pad.flags = MEDIA_PAD_FL_SINK;
	return media_entity_pads_init(&vdev->entity, 1, &cam->pad);
}
