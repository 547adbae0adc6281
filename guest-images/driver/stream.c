// SPDX-License-Identifier: GPL-2.0-only
/*
 * Streams: the queue of buffers, and the device that is kept busy with it.
 *
 * A buffer is on the queue (@queued), then with the device (@inflight, in the
 * order of the commits), and then done. Up to three are with the device: one
 * written and waiting for the acknowledgement of the one before, one in work,
 * one pending. What became of them is told by the address of each frame that is
 * done, never counted from interrupts, so that events which come together, or
 * late, do no harm.
 */

#include <linux/iopoll.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/version.h>
#include <media/videobuf2-dma-contig.h>

#include "minivmm-camera.h"

#define MCAM_STOP_TIMEOUT_MS	3000
#define MCAM_RESET_TIMEOUT_US	1000000

#define MCAM_IRQ_ERRORS		(MINIVMM_CAM_IRQ_OVERFLOW | \
				 MINIVMM_CAM_IRQ_CONFIG_ERROR | \
				 MINIVMM_CAM_IRQ_BUS_ERROR | \
				 MINIVMM_CAM_IRQ_SYNC_LOSS)
#define MCAM_IRQ_EVENTS		(MINIVMM_CAM_IRQ_FRAME_DONE | \
				 MINIVMM_CAM_IRQ_LATCHED | \
				 MINIVMM_CAM_IRQ_STOPPED | \
				 MCAM_IRQ_ERRORS)

/* Of each pair of registers with an address, the upper half is the second. */
static u64 mcam_read_addr(struct mcam *cam, u32 reg)
{
	return (u64)mcam_read(cam, reg + 4) << 32 | mcam_read(cam, reg);
}

static void mcam_write_addr(struct mcam *cam, u32 reg, dma_addr_t addr)
{
	mcam_write(cam, reg, lower_32_bits(addr));
	mcam_write(cam, reg + 4, upper_32_bits(addr));
}

/* Abandons the frame in work, if there is one, and waits until it is. */
int mcam_reset(struct mcam *cam)
{
	u32 status;
	int ret;

	mcam_write(cam, MINIVMM_CAM_CTRL, MINIVMM_CAM_CTRL_RESET);
	ret = readl_poll_timeout(cam->regs + MINIVMM_CAM_STATUS, status,
				 !(status & (MINIVMM_CAM_STATUS_ACTIVE |
					     MINIVMM_CAM_STATUS_STREAMING)),
				 100, MCAM_RESET_TIMEOUT_US);
	if (ret)
		dev_err(cam->dev, "still busy after a reset, status %#x\n",
			status);
	return ret;
}

static u32 mcam_plane0_bytes(struct mcam *cam)
{
	return cam->format.bytesperline * cam->format.height;
}

/* What the frames of a stream share; their addresses come with each commit. */
static void mcam_program_format(struct mcam *cam)
{
	const struct v4l2_pix_format *pix = &cam->format;
	u32 plane0 = mcam_plane0_bytes(cam);
	u32 plane1 = pix->sizeimage - plane0;

	mcam_write(cam, MINIVMM_CAM_CH_FORMAT, pix->pixelformat);
	mcam_write(cam, MINIVMM_CAM_CH_SIZE, pix->height << 16 | pix->width);
	mcam_write(cam, MINIVMM_CAM_CH_STRIDE0, pix->bytesperline);
	mcam_write(cam, MINIVMM_CAM_CH_LEN0, plane0);
	mcam_write(cam, MINIVMM_CAM_CH_STRIDE1,
		   plane1 ? pix->bytesperline : 0);
	mcam_write(cam, MINIVMM_CAM_CH_LEN1, plane1);
}

void mcam_program_interval(struct mcam *cam)
{
	u64 us = div_u64((u64)cam->interval.numerator * USEC_PER_SEC,
			 cam->interval.denominator);

	mcam_write(cam, MINIVMM_CAM_FRAME_INTERVAL, us);
}

static void mcam_commit_next(struct mcam *cam)
{
	struct mcam_buffer *buf;

	lockdep_assert_held(&cam->slock);

	/* A commit would replace one that no frame has taken yet. */
	if (list_empty(&cam->queued) ||
	    mcam_read(cam, MINIVMM_CAM_STATUS) & MINIVMM_CAM_STATUS_PENDING)
		return;

	buf = list_first_entry(&cam->queued, struct mcam_buffer, queue);
	list_move_tail(&buf->queue, &cam->inflight);
	mcam_write_addr(cam, MINIVMM_CAM_CH_ADDR0_LO, buf->addr);
	if (cam->format.sizeimage > mcam_plane0_bytes(cam))
		mcam_write_addr(cam, MINIVMM_CAM_CH_ADDR1_LO,
				buf->addr + mcam_plane0_bytes(cam));
	mcam_write(cam, MINIVMM_CAM_CH_COMMIT, 1);
}

static void mcam_finish(struct mcam *cam, struct mcam_buffer *buf, u32 sequence,
			u32 bytes, enum vb2_buffer_state state)
{
	struct vb2_v4l2_buffer *vb = &buf->vb;

	list_del_init(&buf->queue);
	cam->next_sequence = sequence + 1;
	vb->sequence = sequence;
	vb->field = V4L2_FIELD_NONE;
	vb->vb2_buf.timestamp = ktime_get_ns();
	vb2_set_plane_payload(&vb->vb2_buf, 0, bytes);
	vb2_buffer_done(&vb->vb2_buf, state);
}

/*
 * The device gave up the frames of all buffers before @end, which is in
 * @inflight, or of all; it has counted them in its sequence.
 */
static void mcam_fail_before(struct mcam *cam, struct mcam_buffer *end)
{
	struct mcam_buffer *buf, *next;

	list_for_each_entry_safe(buf, next, &cam->inflight, queue) {
		if (buf == end)
			return;
		mcam_finish(cam, buf, cam->next_sequence, 0,
			    VB2_BUF_STATE_ERROR);
	}
}

static void mcam_frame_done(struct mcam *cam)
{
	u64 addr = mcam_read_addr(cam, MINIVMM_CAM_DONE_ADDR_LO);
	u32 bytes = mcam_read(cam, MINIVMM_CAM_DONE_BYTES);
	u32 sequence = mcam_read(cam, MINIVMM_CAM_DONE_SEQUENCE);
	struct mcam_buffer *buf;

	list_for_each_entry(buf, &cam->inflight, queue) {
		if (buf->addr != addr)
			continue;
		mcam_fail_before(cam, buf);
		if (bytes <= cam->format.sizeimage) {
			mcam_finish(cam, buf, sequence, bytes,
				    VB2_BUF_STATE_DONE);
			return;
		}
		dev_err_ratelimited(cam->dev,
				    "frame %u has %u bytes, more than %u\n",
				    sequence, bytes, cam->format.sizeimage);
		mcam_finish(cam, buf, sequence, 0, VB2_BUF_STATE_ERROR);
		return;
	}
	dev_err_ratelimited(cam->dev,
			    "frame %u is done at %#llx, where no buffer is\n",
			    sequence, addr);
}

static void mcam_report_errors(struct mcam *cam, u32 events)
{
	if (events & MINIVMM_CAM_IRQ_BUS_ERROR)
		dev_err_ratelimited(cam->dev, "bus error at %#llx, plane %u\n",
				    mcam_read_addr(cam, MINIVMM_CAM_ERR_ADDR_LO),
				    mcam_read(cam, MINIVMM_CAM_ERR_INFO) & 0xff);
	if (events & MINIVMM_CAM_IRQ_CONFIG_ERROR)
		dev_err_ratelimited(cam->dev,
				    "configuration refused: %p4cc %ux%u, %u bytes a line\n",
				    &cam->format.pixelformat,
				    cam->format.width, cam->format.height,
				    cam->format.bytesperline);
	if (events & MINIVMM_CAM_IRQ_OVERFLOW)
		dev_err_ratelimited(cam->dev, "line buffer overflow\n");
	if (events & MINIVMM_CAM_IRQ_SYNC_LOSS)
		dev_err_ratelimited(cam->dev, "sensor link lost\n");
}

/*
 * Whether no frame is with the device any more: none pending, none in work, none
 * waiting to be reported, which one can only while another is reported. Read in
 * the order in which a frame goes on, so that none slips through.
 */
static bool mcam_device_is_idle(struct mcam *cam)
{
	return !(mcam_read(cam, MINIVMM_CAM_STATUS) &
		 (MINIVMM_CAM_STATUS_PENDING | MINIVMM_CAM_STATUS_ACTIVE)) &&
	       !(mcam_read(cam, MINIVMM_CAM_IRQ_RAW) &
		 MINIVMM_CAM_IRQ_FRAME_DONE);
}

irqreturn_t mcam_irq(int irq, void *data)
{
	struct mcam *cam = data;
	u32 events, done;

	spin_lock(&cam->slock);
	events = mcam_read(cam, MINIVMM_CAM_IRQ_STATUS);
	done = events & MINIVMM_CAM_IRQ_FRAME_DONE;
	if (events & MCAM_IRQ_ERRORS)
		mcam_report_errors(cam, events);

	/*
	 * Before the device's state is looked at, so that what happens after
	 * that is a new edge. Only FRAME_DONE holds the DONE registers until they
	 * were read; with its acknowledgement a frame held back takes them.
	 */
	if (events != done)
		mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, events ^ done);
	if (done) {
		if (cam->streaming)
			mcam_frame_done(cam);
		mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, done);
	}
	if (cam->streaming) {
		if ((events & MCAM_IRQ_ERRORS) && mcam_device_is_idle(cam))
			mcam_fail_before(cam, NULL);
		mcam_commit_next(cam);
	}
	spin_unlock(&cam->slock);

	if (events & MINIVMM_CAM_IRQ_STOPPED)
		complete(&cam->stopped);
	return events ? IRQ_HANDLED : IRQ_NONE;
}

static struct mcam_buffer *to_mcam_buffer(struct vb2_buffer *vb)
{
	return container_of(to_vb2_v4l2_buffer(vb), struct mcam_buffer, vb);
}

static int mcam_queue_setup(struct vb2_queue *vq, unsigned int *num_buffers,
			    unsigned int *num_planes, unsigned int sizes[],
			    struct device *alloc_devs[])
{
	struct mcam *cam = vb2_get_drv_priv(vq);

	if (*num_planes)
		return sizes[0] < cam->format.sizeimage ? -EINVAL : 0;

	*num_planes = 1;
	sizes[0] = cam->format.sizeimage;
	return 0;
}

static int mcam_buf_init(struct vb2_buffer *vb)
{
	struct mcam *cam = vb2_get_drv_priv(vb->vb2_queue);
	struct mcam_buffer *buf = to_mcam_buffer(vb);
	dma_addr_t end;

	buf->addr = vb2_dma_contig_plane_dma_addr(vb, 0);
	list_add_tail(&buf->entry, &cam->buffers);
	end = buf->addr + vb2_plane_size(vb, 0);
	if (!cam->extent_end || buf->addr < cam->extent_start)
		cam->extent_start = buf->addr;
	cam->extent_end = max(cam->extent_end, end);
	return 0;
}

static void mcam_buf_cleanup(struct vb2_buffer *vb)
{
	list_del(&to_mcam_buffer(vb)->entry);
}

static int mcam_buf_prepare(struct vb2_buffer *vb)
{
	struct mcam *cam = vb2_get_drv_priv(vb->vb2_queue);

	if (vb2_plane_size(vb, 0) < cam->format.sizeimage) {
		dev_dbg(cam->dev, "buffer %u has %lu bytes, a frame %u\n",
			vb->index, vb2_plane_size(vb, 0),
			cam->format.sizeimage);
		return -EINVAL;
	}
	return 0;
}

static void mcam_buf_queue(struct vb2_buffer *vb)
{
	struct mcam *cam = vb2_get_drv_priv(vb->vb2_queue);
	unsigned long flags;

	spin_lock_irqsave(&cam->slock, flags);
	list_add_tail(&to_mcam_buffer(vb)->queue, &cam->queued);
	if (cam->streaming)
		mcam_commit_next(cam);
	spin_unlock_irqrestore(&cam->slock, flags);
}

static void mcam_return_buffers(struct mcam *cam, enum vb2_buffer_state state)
{
	struct mcam_buffer *buf, *next;

	spin_lock_irq(&cam->slock);
	list_splice_init(&cam->inflight, &cam->queued);
	list_for_each_entry_safe(buf, next, &cam->queued, queue)
		vb2_buffer_done(&buf->vb.vb2_buf, state);
	INIT_LIST_HEAD(&cam->queued);
	spin_unlock_irq(&cam->slock);
}

static int mcam_start_streaming(struct vb2_queue *vq, unsigned int count)
{
	struct mcam *cam = vb2_get_drv_priv(vq);
	int ret;

	if (cam->gone) {
		ret = -ENODEV;
		goto err_return;
	}
	/* Only a stream that could not be stopped leaves the device busy. */
	if (mcam_read(cam, MINIVMM_CAM_STATUS)) {
		ret = mcam_reset(cam);
		if (ret)
			goto err_return;
	}
	ret = v4l2_ctrl_handler_setup(&cam->ctrls);
	if (ret)
		goto err_return;

	spin_lock_irq(&cam->slock);
	mcam_program_interval(cam);
	mcam_program_format(cam);
	cam->next_sequence = 0;
	cam->streaming = true;
	mcam_write(cam, MINIVMM_CAM_IRQ_ENABLE, MCAM_IRQ_EVENTS);
	mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, MCAM_IRQ_EVENTS);
	mcam_commit_next(cam);
	mcam_write(cam, MINIVMM_CAM_CTRL, MINIVMM_CAM_CTRL_ENABLE);
	spin_unlock_irq(&cam->slock);
	return 0;

err_return:
	mcam_return_buffers(cam, VB2_BUF_STATE_QUEUED);
	return ret;
}

static void mcam_stop_streaming(struct vb2_queue *vq)
{
	struct mcam *cam = vb2_get_drv_priv(vq);

	spin_lock_irq(&cam->slock);
	cam->streaming = false;
	reinit_completion(&cam->stopped);
	mcam_write(cam, MINIVMM_CAM_CTRL, 0);
	spin_unlock_irq(&cam->slock);

	if (!wait_for_completion_timeout(&cam->stopped,
					 msecs_to_jiffies(MCAM_STOP_TIMEOUT_MS))) {
		dev_warn(cam->dev, "no end of the frame in work, resetting\n");
		mcam_reset(cam);
	}
	mcam_write(cam, MINIVMM_CAM_IRQ_ENABLE, 0);
	mcam_return_buffers(cam, VB2_BUF_STATE_ERROR);
}

static const struct vb2_ops mcam_vb2_ops = {
	.queue_setup = mcam_queue_setup,
	.buf_init = mcam_buf_init,
	.buf_cleanup = mcam_buf_cleanup,
	.buf_prepare = mcam_buf_prepare,
	.buf_queue = mcam_buf_queue,
	.start_streaming = mcam_start_streaming,
	.stop_streaming = mcam_stop_streaming,
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
	.wait_prepare = vb2_ops_wait_prepare,
	.wait_finish = vb2_ops_wait_finish,
#endif
};

int mcam_queue_init(struct mcam *cam)
{
	struct vb2_queue *q = &cam->vbq;

	q->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	q->io_modes = VB2_MMAP | VB2_DMABUF | VB2_READ;
	q->dev = cam->dev;
	q->drv_priv = cam;
	q->lock = &cam->lock;
	q->ops = &mcam_vb2_ops;
	q->mem_ops = &vb2_dma_contig_memops;
	q->buf_struct_size = sizeof(struct mcam_buffer);
	q->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
	/* One in work and one pending. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	q->min_buffers_needed = 2;
#else
	q->min_queued_buffers = 2;
#endif
	return vb2_queue_init(q);
}
