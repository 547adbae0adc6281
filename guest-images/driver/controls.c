// SPDX-License-Identifier: GPL-2.0-only
/*
 * The controls, and the frame interval.
 *
 * All controls belong to the sensor. Each node has them, too. A frame takes
 *
 *	(width + HBLANK) * (height + VBLANK) / PIXEL_RATE
 *
 * seconds. Width and height are those of the sensor's pad and of the raw node
 * (Documentation/userspace-api/media/drivers/camera-sensor.rst). The interval of
 * the nodes (VIDIOC_S_PARM) is computed from the controls: setting it sets
 * VBLANK. A change of the pad's size keeps the lengths of lines and frames, if
 * possible. If the device sets the exposure itself, the controls of exposure and
 * gain are read only and show the current values.
 *
 * A generator of test patterns has neither blanking nor exposure. Its interval
 * is in microseconds.
 */

#include <linux/gcd.h>
#include <linux/math64.h>
#include <media/v4l2-common.h>

#include "minivmm-camera.h"

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

/* V4L2 has no standard control for binning: drivers define their modes. */
#define MCAM_CID_BINNING	(V4L2_CID_IMAGE_SOURCE_CLASS_BASE + 0x1000)

static const s64 mcam_binnings[] = { 1, 2, MINIVMM_CAM_SENSOR_BINNING_MAX };

static const s64 mcam_link_freqs[] = { MINIVMM_CAM_SENSOR_LINK_FREQ };

static const struct v4l2_fract mcam_interval_min = {
	MINIVMM_CAM_FRAME_INTERVAL_MIN, USEC_PER_SEC
};

static const struct v4l2_fract mcam_interval_max = {
	MINIVMM_CAM_FRAME_INTERVAL_MAX, USEC_PER_SEC
};

/* From the current values: a new value of a control can be a trial. */
static u32 mcam_line_length(struct mcam *cam)
{
	return cam->sensor_width + cam->hblank->cur.val;
}

static u32 mcam_frame_length(struct mcam *cam)
{
	return cam->sensor_height + cam->vblank->cur.val;
}

static int mcam_set_frame_length(struct mcam *cam, u32 lines)
{
	struct v4l2_ctrl *exposure = cam->exposure;
	/* The longest exposure is slightly shorter than the frame. */
	u32 max = lines - MINIVMM_CAM_SENSOR_EXPOSURE_MARGIN;

	mcam_write(cam, MINIVMM_CAM_SENSOR_FRAME_LENGTH, lines);

	return __v4l2_ctrl_modify_range(exposure, exposure->minimum, max, 1,
					min_t(u32, max,
					      MINIVMM_CAM_SENSOR_EXPOSURE_RESET));
}

static void mcam_set_flip(struct mcam *cam, u32 bit, bool set)
{
	u32 flip = mcam_read(cam, MINIVMM_CAM_FLIP) & ~bit;

	mcam_write(cam, MINIVMM_CAM_FLIP, set ? flip | bit : flip);
}

static int mcam_s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct mcam *cam = container_of(ctrl->handler, struct mcam, ctrls);

	if (cam->gone)
		return -ENODEV;
	switch (ctrl->id) {
	case V4L2_CID_TEST_PATTERN:
		mcam_write(cam, MINIVMM_CAM_PATTERN, ctrl->val);
		return 0;
	case V4L2_CID_HFLIP:
		mcam_set_flip(cam, MINIVMM_CAM_FLIP_HORIZONTAL, ctrl->val);
		return 0;
	case V4L2_CID_VFLIP:
		mcam_set_flip(cam, MINIVMM_CAM_FLIP_VERTICAL, ctrl->val);
		return 0;
	case V4L2_CID_HBLANK:
		mcam_write(cam, MINIVMM_CAM_SENSOR_LINE_LENGTH,
			   cam->sensor_width + ctrl->val);
		return 0;
	case V4L2_CID_VBLANK:
		return mcam_set_frame_length(cam, cam->sensor_height + ctrl->val);
	case V4L2_CID_EXPOSURE:
		mcam_write(cam, MINIVMM_CAM_SENSOR_EXPOSURE, ctrl->val);
		return 0;
	case V4L2_CID_ANALOGUE_GAIN:
		mcam_write(cam, MINIVMM_CAM_SENSOR_ANALOGUE_GAIN, ctrl->val);
		return 0;
	case V4L2_CID_DIGITAL_GAIN:
		mcam_write(cam, MINIVMM_CAM_SENSOR_DIGITAL_GAIN, ctrl->val);
		return 0;
	case MCAM_CID_BINNING:
		mcam_write(cam, MINIVMM_CAM_SENSOR_BINNING,
			   mcam_binnings[ctrl->val]);
		return 0;
	default:
		return -EINVAL;
	}
}

/* Reads the controls that the device sets. */
static int mcam_g_volatile_ctrl(struct v4l2_ctrl *ctrl)
{
	struct mcam *cam = container_of(ctrl->handler, struct mcam, ctrls);

	if (cam->gone)
		return -ENODEV;
	ctrl->val = mcam_read(cam, ctrl->id == V4L2_CID_EXPOSURE ?
			      MINIVMM_CAM_SENSOR_EXPOSURE :
			      MINIVMM_CAM_SENSOR_ANALOGUE_GAIN);
	return 0;
}

static const struct v4l2_ctrl_ops mcam_ctrl_ops = {
	.g_volatile_ctrl = mcam_g_volatile_ctrl,
	.s_ctrl = mcam_s_ctrl,
};

/*
 * Sets the limits of blanking for the present size. The default gives the
 * device's own interval.
 */
static int mcam_limit_blanking(struct mcam *cam)
{
	u32 width = cam->sensor_width, height = cam->sensor_height;
	u32 nominal = max_t(u32, cam->nominal_frame_length,
			    height + MINIVMM_CAM_SENSOR_BLANK_LINES_MIN);
	int ret;

	ret = __v4l2_ctrl_modify_range(cam->hblank,
				       MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN - width,
				       MINIVMM_CAM_SENSOR_LINE_LENGTH_MAX - width,
				       1,
				       MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN - width);
	if (ret)
		return ret;
	return __v4l2_ctrl_modify_range(cam->vblank,
					MINIVMM_CAM_SENSOR_BLANK_LINES_MIN,
					MINIVMM_CAM_SENSOR_FRAME_LENGTH_MAX - height,
					1, nominal - height);
}

static int mcam_resize_sensor_locked(struct mcam *cam, u32 width, u32 height)
{
	u32 line_length = mcam_line_length(cam);
	u32 frame_length = mcam_frame_length(cam);
	int ret;

	cam->sensor_width = width;
	cam->sensor_height = height;
	ret = mcam_limit_blanking(cam);
	if (ret)
		return ret;
	ret = __v4l2_ctrl_s_ctrl(cam->hblank, line_length - width);
	if (ret)
		return ret;
	return __v4l2_ctrl_s_ctrl(cam->vblank,
				  max_t(s32, frame_length - height,
					cam->vblank->minimum));
}

/* Sets the size of the sensor's output. */
int mcam_resize_sensor(struct mcam *cam, u32 width, u32 height)
{
	int ret;

	if (!cam->vblank)
		return 0;
	mutex_lock(cam->ctrls.lock);
	ret = mcam_resize_sensor_locked(cam, width, height);
	mutex_unlock(cam->ctrls.lock);
	return ret;
}

/* The time that the sensor needs for this number of pixels. */
static struct v4l2_fract mcam_pixel_time(u64 pixels)
{
	u32 rate = MINIVMM_CAM_SENSOR_PIXEL_RATE;
	u32 divisor;

	for (; pixels > U32_MAX; pixels >>= 1)
		rate >>= 1;
	divisor = gcd(pixels, rate);
	return (struct v4l2_fract){ (u32)pixels / divisor, rate / divisor };
}

struct v4l2_fract mcam_interval(struct mcam *cam)
{
	u64 pixels;

	if (!cam->vblank)
		return cam->interval;
	mutex_lock(cam->ctrls.lock);
	pixels = (u64)mcam_line_length(cam) * mcam_frame_length(cam);
	mutex_unlock(cam->ctrls.lock);
	return mcam_pixel_time(pixels);
}

/* The limits of the interval for sensor frames of @height lines. */
void mcam_interval_limits(struct mcam *cam, u32 height, struct v4l2_fract *min,
			  struct v4l2_fract *max)
{
	*min = mcam_interval_min;
	*max = mcam_interval_max;
	if (cam->vblank)
		*min = mcam_pixel_time((u64)MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN *
				       (height + MINIVMM_CAM_SENSOR_BLANK_LINES_MIN));
}

static int mcam_set_sensor_interval(struct mcam *cam, const struct v4l2_fract *tpf)
{
	s64 vblank = cam->vblank->default_value;

	if (tpf)
		vblank = DIV64_U64_ROUND_CLOSEST((u64)tpf->numerator *
						 MINIVMM_CAM_SENSOR_PIXEL_RATE,
						 (u64)tpf->denominator *
						 mcam_line_length(cam)) -
			 cam->sensor_height;
	return __v4l2_ctrl_s_ctrl(cam->vblank,
				  clamp(vblank, cam->vblank->minimum,
					cam->vblank->maximum));
}

/* Sets the nearest possible interval. A zero fraction means the device's own. */
int mcam_set_interval(struct mcam *cam, struct v4l2_fract tpf)
{
	bool nominal = !tpf.numerator || !tpf.denominator;
	int ret = 0;

	if (!nominal && V4L2_FRACT_COMPARE(tpf, <, mcam_interval_min))
		tpf = mcam_interval_min;
	if (!nominal && V4L2_FRACT_COMPARE(tpf, >, mcam_interval_max))
		tpf = mcam_interval_max;
	if (cam->vblank) {
		mutex_lock(cam->ctrls.lock);
		ret = mcam_set_sensor_interval(cam, nominal ? NULL : &tpf);
		mutex_unlock(cam->ctrls.lock);
	} else {
		cam->interval = nominal ? cam->nominal_interval : tpf;
		mcam_program_interval(cam);
	}
	return ret;
}

/* For a device without a sensor. The controls program a sensor's interval. */
void mcam_program_interval(struct mcam *cam)
{
	u64 us = div_u64((u64)cam->interval.numerator * USEC_PER_SEC,
			 cam->interval.denominator);

	if (!cam->vblank)
		mcam_write(cam, MINIVMM_CAM_FRAME_INTERVAL, us);
}

static const struct v4l2_ctrl_config mcam_binning = {
	.ops = &mcam_ctrl_ops,
	.id = MCAM_CID_BINNING,
	.name = "Binning",
	.type = V4L2_CTRL_TYPE_INTEGER_MENU,
	.max = ARRAY_SIZE(mcam_binnings) - 1,
	.qmenu_int = mcam_binnings,
};

static void mcam_init_sensor_ctrls(struct mcam *cam, bool automatic)
{
	u32 width = cam->sensor_width, height = cam->sensor_height;
	struct v4l2_ctrl_handler *ctrls = &cam->ctrls;
	struct v4l2_ctrl *link_freq, *gain;
	u32 frame_length, exposure_max;

	cam->nominal_frame_length = mcam_read(cam, MINIVMM_CAM_SENSOR_FRAME_LENGTH);
	frame_length = max_t(u32, cam->nominal_frame_length,
			     height + MINIVMM_CAM_SENSOR_BLANK_LINES_MIN);
	exposure_max = frame_length - MINIVMM_CAM_SENSOR_EXPOSURE_MARGIN;

	v4l2_ctrl_new_std(ctrls, NULL, V4L2_CID_PIXEL_RATE,
			  MINIVMM_CAM_SENSOR_PIXEL_RATE,
			  MINIVMM_CAM_SENSOR_PIXEL_RATE, 1,
			  MINIVMM_CAM_SENSOR_PIXEL_RATE);
	link_freq = v4l2_ctrl_new_int_menu(ctrls, NULL, V4L2_CID_LINK_FREQ, 0, 0,
					   mcam_link_freqs);
	if (link_freq)
		link_freq->flags |= V4L2_CTRL_FLAG_READ_ONLY;

	cam->exposure = v4l2_ctrl_new_std(ctrls, &mcam_ctrl_ops,
					  V4L2_CID_EXPOSURE,
					  MINIVMM_CAM_SENSOR_EXPOSURE_MIN,
					  exposure_max, 1,
					  min_t(u32, exposure_max,
						MINIVMM_CAM_SENSOR_EXPOSURE_RESET));
	gain = v4l2_ctrl_new_std(ctrls, &mcam_ctrl_ops, V4L2_CID_ANALOGUE_GAIN,
				 MINIVMM_CAM_SENSOR_GAIN_ONE,
				 MINIVMM_CAM_SENSOR_ANALOGUE_GAIN_MAX, 1,
				 MINIVMM_CAM_SENSOR_GAIN_ONE);
	if (automatic && cam->exposure && gain) {
		cam->exposure->flags |= V4L2_CTRL_FLAG_READ_ONLY |
					V4L2_CTRL_FLAG_VOLATILE;
		gain->flags |= V4L2_CTRL_FLAG_READ_ONLY |
			       V4L2_CTRL_FLAG_VOLATILE;
	}
	v4l2_ctrl_new_std(ctrls, &mcam_ctrl_ops, V4L2_CID_DIGITAL_GAIN,
			  MINIVMM_CAM_SENSOR_GAIN_ONE,
			  MINIVMM_CAM_SENSOR_DIGITAL_GAIN_MAX, 1,
			  MINIVMM_CAM_SENSOR_GAIN_ONE);

	v4l2_ctrl_new_custom(ctrls, &mcam_binning, NULL);

	cam->hblank = v4l2_ctrl_new_std(ctrls, &mcam_ctrl_ops, V4L2_CID_HBLANK,
					MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN - width,
					MINIVMM_CAM_SENSOR_LINE_LENGTH_MAX - width,
					1,
					MINIVMM_CAM_SENSOR_LINE_LENGTH_MIN - width);
	cam->vblank = v4l2_ctrl_new_std(ctrls, &mcam_ctrl_ops, V4L2_CID_VBLANK,
					MINIVMM_CAM_SENSOR_BLANK_LINES_MIN,
					MINIVMM_CAM_SENSOR_FRAME_LENGTH_MAX - height,
					1, frame_length - height);
}

/*
 * Called after the raw node has its format. The device is in its reset state, so
 * its registers contain the defaults.
 */
int mcam_init_ctrls(struct mcam *cam)
{
	const struct v4l2_pix_format *pix = &mcam_raw(cam)->format;
	u32 last = MINIVMM_CAM_PATTERN_COUNT - 1;
	u32 pattern = min(mcam_read(cam, MINIVMM_CAM_PATTERN), last);
	u32 caps = mcam_read(cam, MINIVMM_CAM_CAPS);

	cam->nominal_interval = (struct v4l2_fract){
		mcam_read(cam, MINIVMM_CAM_FRAME_INTERVAL), USEC_PER_SEC
	};
	cam->interval = cam->nominal_interval;
	cam->sensor_width = pix->width;
	cam->sensor_height = pix->height;

	v4l2_ctrl_handler_init(&cam->ctrls, 11);
	v4l2_ctrl_new_std_menu_items(&cam->ctrls, &mcam_ctrl_ops,
				     V4L2_CID_TEST_PATTERN, last, 0, pattern,
				     mcam_patterns);
	v4l2_ctrl_new_std(&cam->ctrls, &mcam_ctrl_ops, V4L2_CID_HFLIP, 0, 1, 1,
			  0);
	v4l2_ctrl_new_std(&cam->ctrls, &mcam_ctrl_ops, V4L2_CID_VFLIP, 0, 1, 1,
			  0);
	if (caps & MINIVMM_CAM_CAPS_SENSOR)
		mcam_init_sensor_ctrls(cam, caps & MINIVMM_CAM_CAPS_AUTO);
	return cam->ctrls.error;
}
