/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the driver share.
 */
#ifndef MINIVMM_CAMERA_H
#define MINIVMM_CAMERA_H

#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/videodev2.h>
#include <media/media-device.h>
#include <media/media-entity.h>
#include <media/v4l2-ctrls.h>
#include <media/v4l2-dev.h>
#include <media/v4l2-device.h>
#include <media/videobuf2-v4l2.h>

#include "minivmm-camera-regs.h"

#define MCAM_NAME	"minivmm-camera"
#define MCAM_CARD	"minivmm camera"

struct mcam_buffer {
	struct vb2_v4l2_buffer vb;
	struct list_head entry;		/* in mcam.buffers */
	struct list_head queue;		/* in mcam.queued or mcam.inflight */
	dma_addr_t addr;
};

struct mcam {
	struct device *dev;
	void __iomem *regs;
	struct v4l2_device v4l2_dev;
	struct media_device mdev;
	struct media_pad pad;
	struct video_device vdev;
	struct v4l2_ctrl_handler ctrls;
	struct vb2_queue vbq;
	struct dentry *debugfs;

	/* What the device can do of the driver's sizes, and its own interval. */
	const struct v4l2_frmsize_discrete *sizes;
	unsigned int num_sizes;
	struct v4l2_fract nominal_interval;

	/* Serialises ioctls, and guards what follows. */
	struct mutex lock;
	struct v4l2_pix_format format;
	struct v4l2_fract interval;
	struct list_head buffers;
	dma_addr_t extent_start;
	dma_addr_t extent_end;
	bool gone;

	/* Guards what the interrupt handler shares with the queue. */
	spinlock_t slock;
	bool streaming;
	struct list_head queued;
	struct list_head inflight;
	u32 next_sequence;

	struct completion stopped;
};

static inline u32 mcam_read(struct mcam *cam, u32 reg)
{
	return readl(cam->regs + reg);
}

static inline void mcam_write(struct mcam *cam, u32 reg, u32 value)
{
	writel(value, cam->regs + reg);
}

/* video.c */
int mcam_video_init(struct mcam *cam);

/* stream.c */
int mcam_reset(struct mcam *cam);
void mcam_program_interval(struct mcam *cam);
irqreturn_t mcam_irq(int irq, void *data);
int mcam_queue_init(struct mcam *cam);

/* debugfs.c */
void mcam_debugfs_init(void);
void mcam_debugfs_exit(void);
void mcam_debugfs_add(struct mcam *cam);
void mcam_debugfs_remove(struct mcam *cam);

#endif
