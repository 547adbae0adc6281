// SPDX-License-Identifier: GPL-2.0-only
/*
 * Formats, sizes and planes of the capture nodes.
 */

#include <linux/kernel.h>
#include <media/v4l2-common.h>

#include "minivmm-camera.h"

/* Ascending in width and height: a device supports a contiguous part. */
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

/* The device is in its reset state. */
int mcam_init_sizes(struct mcam *cam)
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

const struct mcam_format *mcam_find_format(struct mcam_node *node,
					   u32 pixelformat)
{
	unsigned int i;

	for (i = 0; i < node->num_formats; i++)
		if (node->formats[i].pixelformat == pixelformat)
			return &node->formats[i];
	return NULL;
}

bool mcam_has_size(struct mcam *cam, u32 width, u32 height)
{
	unsigned int i;

	for (i = 0; i < cam->num_sizes; i++)
		if (cam->sizes[i].width == width &&
		    cam->sizes[i].height == height)
			return true;
	return false;
}

/* The nearest size within @limit, or the smallest size. */
const struct v4l2_frmsize_discrete *
mcam_nearest_size(struct mcam *cam, u32 width, u32 height,
		  const struct v4l2_rect *limit)
{
	const struct v4l2_frmsize_discrete *largest;
	unsigned int num_sizes = cam->num_sizes;

	largest = &cam->sizes[num_sizes - 1];
	for (; num_sizes > 1 && limit; num_sizes--, largest--)
		if (largest->width <= limit->width &&
		    largest->height <= limit->height)
			break;
	return v4l2_find_nearest_size(cam->sizes, num_sizes, width, height,
				      min(width, largest->width),
				      min(height, largest->height));
}

bool mcam_is_scaled(struct mcam_node *node)
{
	return mcam_has_isp(node->cam) && node == mcam_processed(node->cam);
}

/* Adjusts @pix to the nearest format of the node, within @limit if it is given. */
void mcam_adjust_format(struct mcam_node *node,
			       struct v4l2_pix_format *pix,
			       const struct v4l2_rect *limit)
{
	const struct v4l2_frmsize_discrete *size;
	const struct mcam_format *format;

	format = mcam_find_format(node, pix->pixelformat) ?: node->formats;
	size = mcam_nearest_size(node->cam, pix->width, pix->height, limit);
	if (format->depth) {
		/* The core's table lacks the packed formats. */
		pix->pixelformat = format->pixelformat;
		pix->width = size->width;
		pix->height = size->height;
		pix->bytesperline = size->width * format->depth / 8;
		pix->sizeimage = pix->bytesperline * size->height;
	} else {
		v4l2_fill_pixfmt(pix, format->contiguous ?: format->pixelformat,
				 size->width, size->height);
		pix->pixelformat = format->pixelformat;
	}

	pix->field = V4L2_FIELD_NONE;
	pix->flags = 0;
	pix->colorspace = V4L2_COLORSPACE_SRGB;
	pix->xfer_func = V4L2_XFER_FUNC_SRGB;
	if (v4l2_is_format_yuv(v4l2_format_info(format->pixelformat))) {
		pix->ycbcr_enc = V4L2_YCBCR_ENC_601;
		pix->quantization = V4L2_QUANTIZATION_LIM_RANGE;
	} else {
		pix->ycbcr_enc = V4L2_YCBCR_ENC_DEFAULT;
		pix->quantization = V4L2_QUANTIZATION_FULL_RANGE;
	}
}

/* Fills in the planes of a format. Returns their number. */
unsigned int mcam_find_planes(const struct v4l2_pix_format *pix,
				     struct mcam_plane *planes)
{
	const struct v4l2_format_info *info;
	unsigned int i;

	planes[0].stride = pix->bytesperline;
	planes[0].bytes = pix->bytesperline * pix->height;
	info = v4l2_format_info(pix->pixelformat);
	if (!info)
		return 1;
	for (i = 1; i < info->comp_planes; i++) {
		/* The line is shorter if the plane has fewer samples. */
		planes[i].stride = pix->bytesperline / info->bpp[0] *
				   info->bpp[i] / info->hdiv;
		planes[i].bytes = planes[i].stride * (pix->height / info->vdiv);
	}
	return info->comp_planes;
}

unsigned int mcam_mem_planes(u32 pixelformat)
{
	const struct v4l2_format_info *info = v4l2_format_info(pixelformat);

	return info ? info->mem_planes : 1;
}

void mcam_init_planes(struct mcam_node *node)
{
	u32 pixelformat = node->format.pixelformat;

	node->fourcc = mcam_find_format(node, pixelformat)->contiguous ?:
		       pixelformat;
	node->num_planes = mcam_find_planes(&node->format, node->planes);
	node->mem_planes = mcam_mem_planes(pixelformat);
}

/*
 * Changes the size of the sensor's output. The ISP's crop becomes the whole
 * output. The processed frame is not larger than the output.
 */
static int mcam_resize(struct mcam *cam, u32 width, u32 height)
{
	struct mcam_node *node = mcam_processed(cam);
	bool fits = !mcam_has_isp(cam) || (node->format.width <= width &&
				      node->format.height <= height);
	int ret;

	if (vb2_is_streaming(&node->vbq) || (!fits && vb2_is_busy(&node->vbq)))
		return -EBUSY;
	ret = mcam_resize_sensor(cam, width, height);
	if (ret)
		return ret;
	cam->crop = (struct v4l2_rect){ 0, 0, width, height };
	if (fits)
		return 0;
	ret = mcam_set_format(node, node->format.pixelformat, width, height);
	if (!ret)
		mcam_source_changed(node);
	return ret;
}

/*
 * Sets the format of a node, for the node or for a sub-device. The format of the
 * raw node is the output of the sensor. The size of the processed node is the
 * output of the ISP, which does not enlarge. The sensor's format cannot change
 * while a node streams.
 */
int mcam_set_format(struct mcam_node *node, u32 pixelformat, u32 width,
		    u32 height)
{
	struct v4l2_pix_format pix = {
		.pixelformat = pixelformat,
		.width = width,
		.height = height,
	};
	struct mcam *cam = node->cam;
	int ret;

	lockdep_assert_held(&cam->lock);

	mcam_adjust_format(node, &pix, mcam_is_scaled(node) ? &cam->crop : NULL);
	if (pix.pixelformat == node->format.pixelformat &&
	    pix.width == node->format.width &&
	    pix.height == node->format.height)
		return 0;
	if (vb2_is_busy(&node->vbq))
		return -EBUSY;
	if (node == mcam_raw(cam)) {
		ret = mcam_resize(cam, pix.width, pix.height);
		if (ret)
			return ret;
	}
	node->format = pix;
	mcam_init_planes(node);
	return 0;
}
