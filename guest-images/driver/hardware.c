// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sequences of register accesses: reset, and the configuration of a frame.
 */

#include <linux/iopoll.h>
#include <linux/kernel.h>

#include "minivmm-camera.h"

/*
 * The device abandons a frame within a line, and says so in STATUS. An emulated
 * host may take long for it: only a device that is dead takes this long.
 */
#define MCAM_RESET_TIMEOUT_US	30000000

/* The next register has the upper half of the address. */
u64 mcam_read_addr(struct mcam *cam, u32 reg)
{
	return (u64)mcam_read(cam, reg + 4) << 32 | mcam_read(cam, reg);
}

void mcam_write_addr(struct mcam_node *node, u32 reg, dma_addr_t addr)
{
	mcam_node_write(node, reg, lower_32_bits(addr));
	mcam_node_write(node, reg + 4, upper_32_bits(addr));
}

/* Abandons the frame in work, and waits until the device is idle. */
int mcam_reset(struct mcam *cam)
{
	u32 status;
	int ret;

	mcam_write(cam, MINIVMM_CAM_CTRL, MINIVMM_CAM_CTRL_RESET);
	ret = readl_poll_timeout(cam->regs + MINIVMM_CAM_STATUS, status,
				 !status, 100, MCAM_RESET_TIMEOUT_US);
	if (ret)
		dev_err(cam->dev, "still busy after a reset, status %#x\n",
			status);
	return ret;
}

/* The register of @plane, given the registers of planes 0 and 1. */
u32 mcam_plane_reg(u32 reg, u32 next, unsigned int plane)
{
	return reg + (next - reg) * plane;
}

/* Takes effect with the next commit. */
void mcam_program_crop(struct mcam *cam)
{
	const struct v4l2_pix_format *raw = &mcam_raw(cam)->format;
	const struct v4l2_rect *crop = &cam->crop;

	mcam_write(cam, MINIVMM_CAM_CH_INPUT_SIZE,
		   raw->height << 16 | raw->width);
	mcam_write(cam, MINIVMM_CAM_CH_CROP_POSITION,
		   crop->top << 16 | crop->left);
	mcam_write(cam, MINIVMM_CAM_CH_CROP_SIZE,
		   crop->height << 16 | crop->width);
}

/* All frames of a stream have the same format. A commit adds the addresses. */
void mcam_program_format(struct mcam_node *node)
{
	const struct v4l2_pix_format *pix = &node->format;
	unsigned int i;

	mcam_node_write(node, MINIVMM_CAM_CH_FORMAT, node->fourcc);
	mcam_node_write(node, MINIVMM_CAM_CH_SIZE,
			pix->height << 16 | pix->width);
	if (node == mcam_processed(node->cam))
		mcam_program_crop(node->cam);
	for (i = 0; i < node->num_planes; i++) {
		mcam_node_write(node,
				mcam_plane_reg(MINIVMM_CAM_CH_STRIDE0,
					       MINIVMM_CAM_CH_STRIDE1, i),
				node->planes[i].stride);
		mcam_node_write(node,
				mcam_plane_reg(MINIVMM_CAM_CH_LEN0,
					       MINIVMM_CAM_CH_LEN1, i),
				mcam_has_bug(MCAM_BUG_DMA_LENGTH) ?
				2 * node->planes[i].bytes :
				node->planes[i].bytes);
	}
}
