/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Declarations that the parts of the driver share.
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
#include <linux/workqueue.h>
#include <media/media-device.h>
#include <media/media-entity.h>
#include <media/v4l2-ctrls.h>
#include <media/v4l2-dev.h>
#include <media/v4l2-device.h>
#include <media/v4l2-subdev.h>
#include <media/videobuf2-v4l2.h>

#include "minivmm-camera-regs.h"

#define MCAM_NAME	"minivmm-camera"
#define MCAM_CARD	"minivmm camera"

/* The first channels of the device write frames. The others have metadata. */
#define MCAM_CAPTURE_NODES	MINIVMM_CAM_CHANNEL_STATISTICS

#define MCAM_MAX_PLANES		3

/* The deliberate bugs of buggy.c. The normal driver has none of them. */
enum mcam_bug {
	MCAM_BUG_NONE,
	/* A buffer whose frame failed is not returned. */
	MCAM_BUG_LOST_BUFFER,
	/* A frame that is too short is returned as a whole frame. */
	MCAM_BUG_SHORT_FRAME,
	/* After an overflow, buffers are returned while the device writes them. */
	MCAM_BUG_EARLY_RETURN,
	/* There is no watchdog for lost interrupts. */
	MCAM_BUG_NO_WATCHDOG,
	/* The device gets lengths that are larger than the buffers. */
	MCAM_BUG_DMA_LENGTH,
};

#ifdef MCAM_BUGGY
static enum mcam_bug mcam_bug;

#define mcam_has_bug(which)	(mcam_bug == (which))
#else
#define mcam_has_bug(which)	false
#endif

struct mcam_buffer {
	struct vb2_v4l2_buffer vb;
	struct list_head entry;		/* in mcam_node.buffers */
	struct list_head queue;		/* in queued, inflight or finished */
	dma_addr_t addr;
	enum vb2_buffer_state result;	/* of a finished buffer */
};

/* A pixel format of a node. */
struct mcam_format {
	u32 pixelformat;
	/* Raw formats only: bus code from sensor to ISP, bits in memory. */
	u32 mbus_code;
	u32 depth;
	/* Formats with separate planes only: the device's code. */
	u32 contiguous;
};

/* A plane of a frame, as programmed into the device. */
struct mcam_plane {
	u32 stride;
	u32 bytes;
};

/*
 * A channel of the device and its node. The format of a metadata node uses two
 * fields: pixelformat is V4L2's dataformat, and sizeimage its buffersize.
 */
struct mcam_node {
	struct mcam *cam;
	unsigned int channel;
	const struct mcam_format *formats;
	unsigned int num_formats;
	struct video_device vdev;
	struct media_pad pad;
	struct vb2_queue vbq;

	/* Guarded by mcam.lock. */
	struct v4l2_pix_format format;
	u32 fourcc;			/* the device's code of the format */
	struct mcam_plane planes[MCAM_MAX_PLANES];	/* of the format */
	unsigned int num_planes;
	unsigned int mem_planes;	/* separate planes: 1, or num_planes */
	struct list_head buffers;

	/* Guarded by mcam.slock. */
	bool streaming;
	struct list_head queued;
	struct list_head inflight;
	struct list_head finished;
	u32 next_sequence;
	bool idle;			/* at the watchdog's last look */

	struct completion stopped;
};

struct mcam {
	struct device *dev;
	void __iomem *regs;
	struct v4l2_device v4l2_dev;
	struct media_device mdev;
	struct v4l2_subdev sensor;
	struct media_pad sensor_pad;
	struct v4l2_subdev isp;
	struct media_pad isp_pads[4];
	struct v4l2_ctrl_handler ctrls;	/* of the sensor and of all nodes */
	/* Only if there is a sensor. */
	struct v4l2_ctrl *exposure;
	struct v4l2_ctrl *hblank;
	struct v4l2_ctrl *vblank;
	struct mcam_node nodes[MINIVMM_CAM_CHANNELS];
	unsigned int num_nodes;		/* without an ISP: the capture nodes only */
	struct dentry *debugfs;

	/* The sizes that the device supports, and its own interval. */
	const struct v4l2_frmsize_discrete *sizes;
	unsigned int num_sizes;
	struct v4l2_fract nominal_interval;
	u32 nominal_frame_length;	/* of the sensor */

	/* The size of the raw node, guarded by the lock of ctrls and by lock. */
	u32 sensor_width;
	u32 sensor_height;

	/* Serialises the ioctls of all nodes, and guards the next fields. */
	struct mutex lock;
	struct v4l2_fract interval;	/* without a sensor */
	struct v4l2_rect crop;		/* the ISP's part of the sensor's output */
	dma_addr_t extent_start;
	dma_addr_t extent_end;
	bool gone;			/* set with the lock of ctrls held, too */

	/* Guards the data that the interrupt handler and the queues share. */
	spinlock_t slock;
	u32 ctrl;			/* the register CTRL */
	u32 irq_enable;			/* the register IRQ_ENABLE */
	u32 frame_sequence;		/* of the last FRAME_SYNC event */
	unsigned int irqs;		/* since the watchdog last looked */
	u32 unanswered;			/* events at that time */

	struct delayed_work watchdog;	/* finds lost interrupts and commits */
};

static inline u32 mcam_read(struct mcam *cam, u32 reg)
{
	return readl(cam->regs + reg);
}

static inline void mcam_write(struct mcam *cam, u32 reg, u32 value)
{
	writel(value, cam->regs + reg);
}

/* A register of the node's channel. */
static inline u32 mcam_node_reg(struct mcam_node *node, u32 reg)
{
	return reg + node->channel * MINIVMM_CAM_CHANNEL_SPACING;
}

static inline u32 mcam_node_read(struct mcam_node *node, u32 reg)
{
	return mcam_read(node->cam, mcam_node_reg(node, reg));
}

static inline void mcam_node_write(struct mcam_node *node, u32 reg, u32 value)
{
	mcam_write(node->cam, mcam_node_reg(node, reg), value);
}

/* Without an ISP, each node has frames of any size. */
static inline bool mcam_has_isp(const struct mcam *cam)
{
	return cam->num_nodes > MCAM_CAPTURE_NODES;
}

/* Bytes of the part @plane of a buffer. */
static inline u32 mcam_plane_size(const struct mcam_node *node,
				  unsigned int plane)
{
	return node->mem_planes == 1 ? node->format.sizeimage :
				       node->planes[plane].bytes;
}

static inline struct mcam_node *mcam_processed(struct mcam *cam)
{
	return &cam->nodes[MINIVMM_CAM_CHANNEL_PROCESSED];
}

static inline struct mcam_node *mcam_raw(struct mcam *cam)
{
	return &cam->nodes[MINIVMM_CAM_CHANNEL_RAW];
}

/* hardware.c */
u64 mcam_read_addr(struct mcam *cam, u32 reg);
void mcam_write_addr(struct mcam_node *node, u32 reg, dma_addr_t addr);
u32 mcam_plane_reg(u32 reg, u32 next, unsigned int plane);
int mcam_reset(struct mcam *cam);
void mcam_program_crop(struct mcam *cam);
void mcam_program_format(struct mcam_node *node);

/* events.c */
void mcam_params_error(struct mcam_node *node, u32 sequence, u32 error);
void mcam_frame_sync(struct mcam *cam, u32 sequence);
void mcam_source_changed(struct mcam_node *node);

/* controls.c */
int mcam_init_ctrls(struct mcam *cam);
int mcam_resize_sensor(struct mcam *cam, u32 width, u32 height);
struct v4l2_fract mcam_interval(struct mcam *cam);
void mcam_interval_limits(struct mcam *cam, u32 height, struct v4l2_fract *min,
			  struct v4l2_fract *max);
int mcam_set_interval(struct mcam *cam, struct v4l2_fract tpf);
void mcam_program_interval(struct mcam *cam);

/* formats.c */
int mcam_init_sizes(struct mcam *cam);
const struct mcam_format *mcam_find_format(struct mcam_node *node,
					   u32 pixelformat);
bool mcam_has_size(struct mcam *cam, u32 width, u32 height);
const struct v4l2_frmsize_discrete *
mcam_nearest_size(struct mcam *cam, u32 width, u32 height,
		  const struct v4l2_rect *limit);
bool mcam_is_scaled(struct mcam_node *node);
void mcam_adjust_format(struct mcam_node *node, struct v4l2_pix_format *pix,
			const struct v4l2_rect *limit);
unsigned int mcam_find_planes(const struct v4l2_pix_format *pix,
			      struct mcam_plane *planes);
unsigned int mcam_mem_planes(u32 pixelformat);
void mcam_init_planes(struct mcam_node *node);
int mcam_set_format(struct mcam_node *node, u32 pixelformat, u32 width,
		    u32 height);

/* stream.c */
irqreturn_t mcam_irq(int irq, void *data);
irqreturn_t mcam_irq_thread(int irq, void *data);
void mcam_watchdog(struct work_struct *work);
int mcam_queue_init(struct mcam_node *node, enum v4l2_buf_type type,
		    unsigned int io_modes, unsigned int min_buffers);

/* video.c */
int mcam_video_init(struct mcam *cam);
int mcam_nodes_register(struct mcam *cam);

/* meta.c */
int mcam_meta_init(struct mcam *cam);

/* subdev.c */
int mcam_subdevs_init(struct mcam *cam);
int mcam_subdevs_register(struct mcam *cam);
void mcam_subdevs_unregister(struct mcam *cam);

/* debugfs.c */
void mcam_debugfs_init(void);
void mcam_debugfs_exit(void);
void mcam_debugfs_add(struct mcam *cam);
void mcam_debugfs_remove(struct mcam *cam);

#endif
