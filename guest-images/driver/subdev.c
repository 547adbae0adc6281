// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sub-devices: the sensor and the ISP.
 *
 * The active format of a pad is the format of a capture node, which stores it.
 * The sensor's pad has the format of the raw node. The ISP crops and scales down;
 * its source pad has the size of the processed node. Its two pads for metadata
 * have a fixed format. A program that uses only capture nodes need not set the
 * pads. Setting a pad changes the node's format. The frame interval is set at the
 * nodes (VIDIOC_S_PARM) or follows from the controls: a pad of a raw sensor has
 * no interval (Documentation/userspace-api/media/drivers/camera-sensor.rst).
 */

#include <linux/version.h>
#include <media/v4l2-event.h>
#include <media/v4l2-fh.h>
#include <media/v4l2-subdev.h>

#include "minivmm-camera.h"

enum { MCAM_ISP_SINK, MCAM_ISP_SOURCE, MCAM_ISP_STATISTICS, MCAM_ISP_PARAMS };

/* The ISP's output. The channel converts it to the format of the node. */
#define MCAM_ISP_CODE	MEDIA_BUS_FMT_RGB888_1X24

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define mcam_try_format(sd, state, pad)	v4l2_subdev_get_try_format(sd, state, pad)
#define mcam_try_crop(sd, state, pad)	v4l2_subdev_get_try_crop(sd, state, pad)
#else
#define mcam_try_format(sd, state, pad)	v4l2_subdev_state_get_format(state, pad)
#define mcam_try_crop(sd, state, pad)	v4l2_subdev_state_get_crop(state, pad)
#endif

static struct mcam *mcam_of(struct v4l2_subdev *sd)
{
	return v4l2_get_subdevdata(sd);
}

static bool mcam_is_isp_source(struct v4l2_subdev *sd, unsigned int pad)
{
	return sd == &mcam_of(sd)->isp && pad == MCAM_ISP_SOURCE;
}

static bool mcam_is_metadata(struct v4l2_subdev *sd, unsigned int pad)
{
	return sd == &mcam_of(sd)->isp && pad >= MCAM_ISP_STATISTICS;
}

/* A buffer of metadata counts as one line of bytes, because size 0 is invalid. */
static void mcam_fill_metadata(struct v4l2_subdev *sd, unsigned int pad,
			       struct v4l2_mbus_framefmt *fmt)
{
	unsigned int channel = pad == MCAM_ISP_STATISTICS ?
			       MINIVMM_CAM_CHANNEL_STATISTICS :
			       MINIVMM_CAM_CHANNEL_PARAMS;

	*fmt = (struct v4l2_mbus_framefmt){
		.code = MEDIA_BUS_FMT_METADATA_FIXED,
		.width = mcam_of(sd)->nodes[channel].format.sizeimage,
		.height = 1,
		.field = V4L2_FIELD_NONE,
	};
}

/* The first raw format with this code, or the default format. */
static const struct mcam_format *mcam_raw_format(struct mcam *cam, u32 code)
{
	const struct mcam_node *raw = mcam_raw(cam);
	unsigned int i;

	for (i = 0; i < raw->num_formats; i++)
		if (raw->formats[i].mbus_code == code)
			return &raw->formats[i];
	return &raw->formats[0];
}

/* The code of the raw node's format. */
static u32 mcam_active_code(struct mcam *cam)
{
	struct mcam_node *raw = mcam_raw(cam);

	return mcam_find_format(raw, raw->format.pixelformat)->mbus_code;
}

static bool mcam_has_code(struct v4l2_subdev *sd, unsigned int pad, u32 code)
{
	if (mcam_is_isp_source(sd, pad))
		return code == MCAM_ISP_CODE;
	return mcam_raw_format(mcam_of(sd), code)->mbus_code == code;
}

static void mcam_fill_mbus(struct v4l2_mbus_framefmt *fmt, u32 code, u32 width,
			   u32 height)
{
	*fmt = (struct v4l2_mbus_framefmt){
		.code = code,
		.width = width,
		.height = height,
		.field = V4L2_FIELD_NONE,
		.colorspace = V4L2_COLORSPACE_SRGB,
		.ycbcr_enc = V4L2_YCBCR_ENC_DEFAULT,
		.quantization = V4L2_QUANTIZATION_FULL_RANGE,
		.xfer_func = V4L2_XFER_FUNC_SRGB,
	};
}

static void mcam_active_format(struct v4l2_subdev *sd, unsigned int pad,
			       struct v4l2_mbus_framefmt *fmt)
{
	struct mcam *cam = mcam_of(sd);
	bool source = mcam_is_isp_source(sd, pad);
	const struct v4l2_pix_format *pix;

	if (mcam_is_metadata(sd, pad)) {
		mcam_fill_metadata(sd, pad, fmt);
		return;
	}
	pix = source ? &mcam_processed(cam)->format : &mcam_raw(cam)->format;
	mcam_fill_mbus(fmt, source ? MCAM_ISP_CODE : mcam_active_code(cam),
		       pix->width, pix->height);
}

static int mcam_enum_mbus_code(struct v4l2_subdev *sd,
			       struct v4l2_subdev_state *state,
			       struct v4l2_subdev_mbus_code_enum *code)
{
	struct mcam *cam = mcam_of(sd);
	const struct mcam_node *raw = mcam_raw(cam);
	const struct mcam_format *format = raw->formats;
	u32 index = code->index;

	if (mcam_is_metadata(sd, code->pad)) {
		code->code = MEDIA_BUS_FMT_METADATA_FIXED;
		return index ? -EINVAL : 0;
	}
	if (mcam_is_isp_source(sd, code->pad)) {
		code->code = MCAM_ISP_CODE;
		return index ? -EINVAL : 0;
	}
	for (; format < raw->formats + raw->num_formats; format++) {
		if (mcam_raw_format(cam, format->mbus_code) != format || index--)
			continue;
		code->code = format->mbus_code;
		return 0;
	}
	return -EINVAL;
}

static int mcam_enum_frame_size(struct v4l2_subdev *sd,
				struct v4l2_subdev_state *state,
				struct v4l2_subdev_frame_size_enum *fse)
{
	struct mcam *cam = mcam_of(sd);

	if (mcam_is_metadata(sd, fse->pad)) {
		struct v4l2_mbus_framefmt fmt;

		mcam_fill_metadata(sd, fse->pad, &fmt);
		if (fse->index || fse->code != fmt.code)
			return -EINVAL;
		fse->min_width = fmt.width;
		fse->max_width = fmt.width;
		fse->min_height = fmt.height;
		fse->max_height = fmt.height;
		return 0;
	}
	if (fse->index >= cam->num_sizes ||
	    !mcam_has_code(sd, fse->pad, fse->code))
		return -EINVAL;
	fse->min_width = cam->sizes[fse->index].width;
	fse->max_width = fse->min_width;
	fse->min_height = cam->sizes[fse->index].height;
	fse->max_height = fse->min_height;
	return 0;
}

static int mcam_get_fmt(struct v4l2_subdev *sd, struct v4l2_subdev_state *state,
			struct v4l2_subdev_format *format)
{
	struct mcam *cam = mcam_of(sd);

	if (format->which == V4L2_SUBDEV_FORMAT_TRY) {
		format->format = *mcam_try_format(sd, state, format->pad);
		return 0;
	}
	mutex_lock(&cam->lock);
	mcam_active_format(sd, format->pad, &format->format);
	mutex_unlock(&cam->lock);
	return 0;
}

static int mcam_set_active_format(struct v4l2_subdev *sd, unsigned int pad,
				  const struct v4l2_mbus_framefmt *fmt)
{
	struct mcam *cam = mcam_of(sd);
	bool source = mcam_is_isp_source(sd, pad);
	struct mcam_node *node = source ? mcam_processed(cam) : mcam_raw(cam);
	struct v4l2_pix_format before = node->format;
	u32 pixelformat;
	int ret;

	if (cam->gone)
		return -ENODEV;
	/* The ISP's input is the sensor's output. Metadata formats are fixed. */
	if (sd == &cam->isp && !source)
		return 0;
	/* The node decides the layout of samples in memory. */
	pixelformat = source || fmt->code == mcam_active_code(cam) ?
		      before.pixelformat :
		      mcam_raw_format(cam, fmt->code)->pixelformat;
	ret = mcam_set_format(node, pixelformat, fmt->width, fmt->height);
	if (ret)
		return ret;
	if (before.pixelformat != node->format.pixelformat ||
	    before.width != node->format.width ||
	    before.height != node->format.height)
		mcam_source_changed(node);
	return 0;
}

/* A new format of the ISP's sink pad resets the crop to the whole frame. */
static void mcam_subdev_try_fmt(struct v4l2_subdev *sd, struct v4l2_subdev_state *state,
			 unsigned int pad, struct v4l2_mbus_framefmt *fmt)
{
	struct mcam *cam = mcam_of(sd);
	bool is_isp = sd == &cam->isp, source = mcam_is_isp_source(sd, pad);
	const struct v4l2_frmsize_discrete *size;
	const struct v4l2_rect *limit = NULL;

	if (source && mcam_has_isp(cam))
		limit = mcam_try_crop(sd, state, MCAM_ISP_SINK);
	size = mcam_nearest_size(cam, fmt->width, fmt->height, limit);
	mcam_fill_mbus(fmt, source ? MCAM_ISP_CODE :
		       mcam_raw_format(cam, fmt->code)->mbus_code,
		       size->width, size->height);
	*mcam_try_format(sd, state, pad) = *fmt;
	if (!is_isp || source)
		return;
	*mcam_try_crop(sd, state, pad) =
		(struct v4l2_rect){ 0, 0, fmt->width, fmt->height };
	if (mcam_has_isp(cam)) {
		struct v4l2_mbus_framefmt *out;

		out = mcam_try_format(sd, state, MCAM_ISP_SOURCE);
		size = mcam_nearest_size(cam, out->width, out->height,
					 mcam_try_crop(sd, state, pad));
		out->width = size->width;
		out->height = size->height;
	}
}

static int mcam_set_fmt(struct v4l2_subdev *sd, struct v4l2_subdev_state *state,
			struct v4l2_subdev_format *format)
{
	struct v4l2_mbus_framefmt *fmt = &format->format;
	struct mcam *cam = mcam_of(sd);
	int ret;

	if (mcam_is_metadata(sd, format->pad))
		return mcam_get_fmt(sd, state, format);
	if (format->which == V4L2_SUBDEV_FORMAT_TRY) {
		mcam_subdev_try_fmt(sd, state, format->pad, fmt);
		return 0;
	}
	mutex_lock(&cam->lock);
	ret = mcam_set_active_format(sd, format->pad, fmt);
	if (!ret)
		mcam_active_format(sd, format->pad, fmt);
	mutex_unlock(&cam->lock);
	return ret;
}

/* The initial TRY state of a file handle: the defaults, not the active state. */
static int mcam_init_state(struct v4l2_subdev *sd,
			   struct v4l2_subdev_state *state)
{
	struct mcam *cam = mcam_of(sd);
	const struct v4l2_frmsize_discrete *size;
	unsigned int pad;

	size = mcam_nearest_size(cam, 640, 480, NULL);
	for (pad = 0; pad < sd->entity.num_pads; pad++) {
		struct v4l2_mbus_framefmt *fmt = mcam_try_format(sd, state, pad);

		if (mcam_is_metadata(sd, pad))
			mcam_fill_metadata(sd, pad, fmt);
		else
			mcam_fill_mbus(fmt, mcam_is_isp_source(sd, pad) ?
				       MCAM_ISP_CODE :
				       mcam_raw_format(cam, 0)->mbus_code,
				       size->width, size->height);
	}
	if (sd == &cam->isp)
		*mcam_try_crop(sd, state, MCAM_ISP_SINK) =
			(struct v4l2_rect){ 0, 0, size->width, size->height };
	return 0;
}

static int mcam_sensor_subscribe(struct v4l2_subdev *sd, struct v4l2_fh *fh,
				 struct v4l2_event_subscription *sub)
{
	if (sub->type == V4L2_EVENT_FRAME_SYNC)
		return v4l2_event_subscribe(fh, sub, 4, NULL);
	return v4l2_ctrl_subdev_subscribe_event(sd, fh, sub);
}

static const struct v4l2_subdev_core_ops mcam_sensor_core_ops = {
	.log_status = v4l2_ctrl_subdev_log_status,
	.subscribe_event = mcam_sensor_subscribe,
	.unsubscribe_event = v4l2_event_subdev_unsubscribe,
};

/* The limits of the ISP's crop: it is inside @in, and not smaller than @out. */
static void mcam_crop_limits(struct v4l2_subdev *sd,
			     struct v4l2_subdev_state *state,
			     struct v4l2_subdev_selection *sel,
			     struct v4l2_mbus_framefmt *in,
			     struct v4l2_mbus_framefmt *out)
{
	if (sel->which == V4L2_SUBDEV_FORMAT_TRY) {
		*in = *mcam_try_format(sd, state, MCAM_ISP_SINK);
		*out = *mcam_try_format(sd, state, MCAM_ISP_SOURCE);
	} else {
		mcam_active_format(sd, MCAM_ISP_SINK, in);
		mcam_active_format(sd, MCAM_ISP_SOURCE, out);
	}
}

static bool mcam_has_crop(struct v4l2_subdev *sd, unsigned int pad)
{
	return mcam_has_isp(mcam_of(sd)) && pad == MCAM_ISP_SINK;
}

static int mcam_get_selection(struct v4l2_subdev *sd,
			      struct v4l2_subdev_state *state,
			      struct v4l2_subdev_selection *sel)
{
	struct v4l2_mbus_framefmt in, out;
	struct mcam *cam = mcam_of(sd);

	if (!mcam_has_crop(sd, sel->pad))
		return -EINVAL;
	mutex_lock(&cam->lock);
	mcam_crop_limits(sd, state, sel, &in, &out);
	switch (sel->target) {
	case V4L2_SEL_TGT_CROP:
		sel->r = sel->which == V4L2_SUBDEV_FORMAT_TRY ?
			 *mcam_try_crop(sd, state, sel->pad) : cam->crop;
		break;
	case V4L2_SEL_TGT_CROP_DEFAULT:
	case V4L2_SEL_TGT_CROP_BOUNDS:
		sel->r = (struct v4l2_rect){ 0, 0, in.width, in.height };
		break;
	default:
		mutex_unlock(&cam->lock);
		return -EINVAL;
	}
	mutex_unlock(&cam->lock);
	return 0;
}

/* The crop can change while streaming. It applies from the next commit on. */
static int mcam_set_selection(struct v4l2_subdev *sd,
			      struct v4l2_subdev_state *state,
			      struct v4l2_subdev_selection *sel)
{
	struct v4l2_mbus_framefmt in, out;
	struct v4l2_rect *r = &sel->r;
	struct mcam *cam = mcam_of(sd);
	int ret = 0;

	if (!mcam_has_crop(sd, sel->pad) || sel->target != V4L2_SEL_TGT_CROP)
		return -EINVAL;
	mutex_lock(&cam->lock);
	mcam_crop_limits(sd, state, sel, &in, &out);
	r->width = clamp(round_down(r->width, 2), out.width, in.width);
	r->height = clamp(round_down(r->height, 2), out.height, in.height);
	r->left = clamp_t(s32, round_down(r->left, 2), 0, in.width - r->width);
	r->top = clamp_t(s32, round_down(r->top, 2), 0, in.height - r->height);
	if (sel->which == V4L2_SUBDEV_FORMAT_TRY) {
		*mcam_try_crop(sd, state, sel->pad) = *r;
	} else if (cam->gone) {
		ret = -ENODEV;
	} else {
		cam->crop = *r;
		spin_lock_irq(&cam->slock);
		mcam_program_crop(cam);
		spin_unlock_irq(&cam->slock);
	}
	mutex_unlock(&cam->lock);
	return ret;
}

static const struct v4l2_subdev_pad_ops mcam_sensor_pad_ops = {
	.enum_mbus_code = mcam_enum_mbus_code,
	.enum_frame_size = mcam_enum_frame_size,
	.get_fmt = mcam_get_fmt,
	.set_fmt = mcam_set_fmt,
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	.init_cfg = mcam_init_state,
#endif
};

static const struct v4l2_subdev_pad_ops mcam_isp_pad_ops = {
	.enum_mbus_code = mcam_enum_mbus_code,
	.enum_frame_size = mcam_enum_frame_size,
	.get_fmt = mcam_get_fmt,
	.set_fmt = mcam_set_fmt,
	.get_selection = mcam_get_selection,
	.set_selection = mcam_set_selection,
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	.init_cfg = mcam_init_state,
#endif
};

static const struct v4l2_subdev_ops mcam_sensor_ops = {
	.core = &mcam_sensor_core_ops,
	.pad = &mcam_sensor_pad_ops,
};

static const struct v4l2_subdev_ops mcam_isp_ops = {
	.pad = &mcam_isp_pad_ops,
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
static const struct v4l2_subdev_internal_ops mcam_internal_ops = {
	.init_state = mcam_init_state,
};
#endif

static void mcam_init_subdev(struct mcam *cam, struct v4l2_subdev *sd,
			     const struct v4l2_subdev_ops *ops,
			     const char *name, u32 function)
{
	v4l2_subdev_init(sd, ops);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	sd->internal_ops = &mcam_internal_ops;
#endif
	sd->owner = THIS_MODULE;
	sd->flags |= V4L2_SUBDEV_FL_HAS_DEVNODE;
	sd->entity.function = function;
	strscpy(sd->name, name, sizeof(sd->name));
	v4l2_set_subdevdata(sd, cam);
}

int mcam_subdevs_init(struct mcam *cam)
{
	int ret;

	mcam_init_subdev(cam, &cam->sensor, &mcam_sensor_ops, "minivmm sensor",
			 MEDIA_ENT_F_CAM_SENSOR);
	cam->sensor.flags |= V4L2_SUBDEV_FL_HAS_EVENTS;
	cam->sensor.ctrl_handler = &cam->ctrls;
	cam->sensor_pad.flags = MEDIA_PAD_FL_SOURCE;
	ret = media_entity_pads_init(&cam->sensor.entity, 1, &cam->sensor_pad);
	if (ret)
		return ret;

	mcam_init_subdev(cam, &cam->isp, &mcam_isp_ops, "minivmm isp",
			 MEDIA_ENT_F_PROC_VIDEO_ISP);
	cam->isp_pads[MCAM_ISP_SINK].flags = MEDIA_PAD_FL_SINK;
	cam->isp_pads[MCAM_ISP_SOURCE].flags = MEDIA_PAD_FL_SOURCE;
	cam->isp_pads[MCAM_ISP_STATISTICS].flags = MEDIA_PAD_FL_SOURCE;
	cam->isp_pads[MCAM_ISP_PARAMS].flags = MEDIA_PAD_FL_SINK;
	/* A pad for each node. Instead of the raw node, the sink gets the sensor's output. */
	return media_entity_pads_init(&cam->isp.entity, cam->num_nodes,
				      cam->isp_pads);
}

static int mcam_link(struct media_entity *from, u16 from_pad,
		     struct media_entity *to, u16 to_pad)
{
	return media_create_pad_link(from, from_pad, to, to_pad,
				     MEDIA_LNK_FL_ENABLED |
				     MEDIA_LNK_FL_IMMUTABLE);
}

static int mcam_link_metadata(struct mcam *cam)
{
	struct mcam_node *statistics, *params;
	int ret;

	if (cam->num_nodes == MCAM_CAPTURE_NODES)
		return 0;
	statistics = &cam->nodes[MINIVMM_CAM_CHANNEL_STATISTICS];
	params = &cam->nodes[MINIVMM_CAM_CHANNEL_PARAMS];
	ret = mcam_link(&cam->isp.entity, MCAM_ISP_STATISTICS,
			&statistics->vdev.entity, 0);
	if (ret)
		return ret;
	return mcam_link(&params->vdev.entity, 0, &cam->isp.entity,
			 MCAM_ISP_PARAMS);
}

/* Called after the nodes are registered, because it creates links to them. */
int mcam_subdevs_register(struct mcam *cam)
{
	int ret;

	ret = v4l2_device_register_subdev(&cam->v4l2_dev, &cam->sensor);
	if (ret)
		return ret;
	ret = v4l2_device_register_subdev(&cam->v4l2_dev, &cam->isp);
	if (ret)
		return ret;
	ret = mcam_link(&cam->sensor.entity, 0, &cam->isp.entity, MCAM_ISP_SINK);
	if (ret)
		return ret;
	ret = mcam_link(&cam->isp.entity, MCAM_ISP_SOURCE,
			&mcam_processed(cam)->vdev.entity, 0);
	if (ret)
		return ret;
	ret = mcam_link(&cam->sensor.entity, 0, &mcam_raw(cam)->vdev.entity, 0);
	if (ret)
		return ret;
	ret = mcam_link_metadata(cam);
	if (ret)
		return ret;
	return v4l2_device_register_subdev_nodes(&cam->v4l2_dev);
}

void mcam_subdevs_unregister(struct mcam *cam)
{
	v4l2_device_unregister_subdev(&cam->isp);
	v4l2_device_unregister_subdev(&cam->sensor);
}
