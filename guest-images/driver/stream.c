// SPDX-License-Identifier: GPL-2.0-only
/*
 * Streaming: the queues of buffers, and the interrupt.
 *
 * A buffer is on its node's queue (@queued), then with the device (@inflight, in
 * the order of the commits), and then @finished. Up to three buffers of a node
 * are with the device: one is written and waits until the driver acknowledges
 * the previous frame, one is in work, one is pending. The address of each done
 * frame identifies its buffer. The driver does not count interrupts, so merged
 * and late interrupts do no harm.
 *
 * The interrupt thread returns finished buffers to programs, with the lock of
 * the ioctls held. Otherwise a fast device could fill a buffer while the
 * VIDIOC_QBUF that queued it still runs, and that ioctl must not return a buffer
 * as done (V4L2_BUF_FLAG_DONE).
 *
 * Interrupts can be lost: while a node streams, a watchdog looks for events that
 * were not handled.
 */

#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/version.h>
#include <media/videobuf2-dma-contig.h>

#include "minivmm-camera.h"
#include "minivmm-camera-meta.h"

#define MCAM_STOP_TIMEOUT_MS	3000
#define MCAM_WATCHDOG_MS	250

#define MCAM_IRQ_ERRORS		(MINIVMM_CAM_IRQ_OVERFLOW | \
				 MINIVMM_CAM_IRQ_CONFIG_ERROR | \
				 MINIVMM_CAM_IRQ_BUS_ERROR | \
				 MINIVMM_CAM_IRQ_SYNC_LOSS)
#define MCAM_IRQ_EVENTS		(MINIVMM_CAM_IRQ_FRAME_START | MCAM_IRQ_ERRORS)
/* The bits of channel 0. The bits of channel n are n positions higher. */
#define MCAM_IRQ_NODE_EVENTS	(MINIVMM_CAM_IRQ_DONE | \
				 MINIVMM_CAM_IRQ_LATCHED | \
				 MINIVMM_CAM_IRQ_STOPPED)
#define MCAM_IRQ_DONE_ALL	(MINIVMM_CAM_IRQ_DONE * \
				 (BIT(MINIVMM_CAM_CHANNELS) - 1))

static void mcam_commit_next(struct mcam_node *node)
{
	struct mcam_buffer *buf;
	dma_addr_t addr;
	unsigned int i;

	lockdep_assert_held(&node->cam->slock);

	/* A commit would replace a pending configuration. */
	if (list_empty(&node->queued) ||
	    mcam_read(node->cam, MINIVMM_CAM_STATUS) &
	    MINIVMM_CAM_STATUS_PENDING << node->channel)
		return;

	buf = list_first_entry(&node->queued, struct mcam_buffer, queue);
	list_move_tail(&buf->queue, &node->inflight);
	addr = buf->addr;
	for (i = 0; i < node->num_planes; i++) {
		if (node->mem_planes > 1)
			addr = vb2_dma_contig_plane_dma_addr(&buf->vb.vb2_buf, i);
		mcam_write_addr(node,
				mcam_plane_reg(MINIVMM_CAM_CH_ADDR0_LO,
					       MINIVMM_CAM_CH_ADDR1_LO, i),
				addr);
		addr += node->planes[i].bytes;
	}
	if (V4L2_TYPE_IS_OUTPUT(node->vbq.type))
		mcam_node_write(node, MINIVMM_CAM_CH_LEN0,
				vb2_get_plane_payload(&buf->vb.vb2_buf, 0));
	mcam_node_write(node, MINIVMM_CAM_CH_COMMIT, 1);
}

static void mcam_finish(struct mcam_node *node, struct mcam_buffer *buf,
			u32 sequence, u32 bytes, enum vb2_buffer_state result)
{
	struct vb2_v4l2_buffer *vb = &buf->vb;
	unsigned int i;

	list_move_tail(&buf->queue, &node->finished);
	node->next_sequence = sequence + 1;
	vb->sequence = sequence;
	vb->field = V4L2_FIELD_NONE;
	vb->vb2_buf.timestamp = ktime_get_ns();
	for (i = 0; V4L2_TYPE_IS_CAPTURE(node->vbq.type) &&
	     i < vb->vb2_buf.num_planes; i++) {
		if (bytes && node->mem_planes > 1)
			bytes = node->planes[i].bytes;
		vb2_set_plane_payload(&vb->vb2_buf, i, bytes);
	}
	buf->result = result;
}

/*
 * The device has dropped the frames of all buffers before @end, which is in
 * @inflight, or of all buffers if @end is NULL. Its sequence number counts them.
 */
static void mcam_fail_before(struct mcam_node *node, struct mcam_buffer *end)
{
	struct mcam_buffer *buf, *next;

	list_for_each_entry_safe(buf, next, &node->inflight, queue) {
		if (buf == end)
			return;
		if (mcam_has_bug(MCAM_BUG_LOST_BUFFER)) {
			list_del_init(&buf->queue);
			continue;
		}
		mcam_finish(node, buf, node->next_sequence, 0,
			    VB2_BUF_STATE_ERROR);
	}
}

/* False for a buffer of parameters that the device has refused. */
static bool mcam_is_taken(struct mcam_node *node, u32 sequence)
{
	u32 error;

	if (node->channel != MINIVMM_CAM_CHANNEL_PARAMS)
		return true;
	error = mcam_node_read(node, MINIVMM_CAM_CH_DONE_ERROR);
	if (error)
		mcam_params_error(node, sequence, error);
	return !error;
}

/* Whether a frame has the size of its format. */
static bool mcam_is_whole(struct mcam_node *node, u32 sequence, u32 bytes)
{
	if (V4L2_TYPE_IS_OUTPUT(node->vbq.type) ||
	    bytes == node->format.sizeimage)
		return true;
	dev_err_ratelimited(node->cam->dev, "frame %u has %u bytes, not %u\n",
			    sequence, bytes, node->format.sizeimage);
	return false;
}

static void mcam_frame_done(struct mcam_node *node)
{
	struct mcam *cam = node->cam;
	u64 addr = mcam_read_addr(cam, mcam_node_reg(node, MINIVMM_CAM_CH_DONE_ADDR_LO));
	u32 bytes = mcam_node_read(node, MINIVMM_CAM_CH_DONE_BYTES);
	u32 sequence = mcam_node_read(node, MINIVMM_CAM_CH_DONE_SEQUENCE);
	struct mcam_buffer *buf;

	list_for_each_entry(buf, &node->inflight, queue) {
		if (buf->addr != addr)
			continue;
		mcam_fail_before(node, buf);
		if (mcam_has_bug(MCAM_BUG_SHORT_FRAME))
			bytes = node->format.sizeimage;
		if (!mcam_is_taken(node, sequence) ||
		    !mcam_is_whole(node, sequence, bytes)) {
			mcam_finish(node, buf, sequence,
				    min(bytes, node->format.sizeimage),
				    VB2_BUF_STATE_ERROR);
			return;
		}
		mcam_finish(node, buf, sequence, bytes, VB2_BUF_STATE_DONE);
		return;
	}
	dev_err_ratelimited(cam->dev,
			    "frame %u is done at %#llx, where no buffer is\n",
			    sequence, addr);
}

static void mcam_report_errors(struct mcam *cam, u32 events)
{
	unsigned int i;

	if (events & MINIVMM_CAM_IRQ_BUS_ERROR)
		dev_err_ratelimited(cam->dev, "bus error at %#llx, plane %u\n",
				    mcam_read_addr(cam, MINIVMM_CAM_ERR_ADDR_LO),
				    mcam_read(cam, MINIVMM_CAM_ERR_INFO) & 0xff);
	if (events & MINIVMM_CAM_IRQ_OVERFLOW)
		dev_err_ratelimited(cam->dev, "line buffer overflow\n");
	if (events & MINIVMM_CAM_IRQ_SYNC_LOSS)
		dev_err_ratelimited(cam->dev, "sensor link lost\n");
	if (!(events & MINIVMM_CAM_IRQ_CONFIG_ERROR))
		return;
	for (i = 0; i < MCAM_CAPTURE_NODES; i++) {
		const struct v4l2_pix_format *pix = &cam->nodes[i].format;

		if (cam->nodes[i].streaming)
			dev_err_ratelimited(cam->dev,
					    "configuration refused: %p4cc %ux%u, %u bytes a line\n",
					    &pix->pixelformat, pix->width,
					    pix->height, pix->bytesperline);
	}
}

/* Whether the device has no buffer of the node that it could still write. */
static bool mcam_node_is_idle(struct mcam_node *node)
{
	return !(mcam_read(node->cam, MINIVMM_CAM_STATUS) &
		 (MINIVMM_CAM_STATUS_PENDING | MINIVMM_CAM_STATUS_ACTIVE) <<
		 node->channel) &&
	       !(mcam_read(node->cam, MINIVMM_CAM_IRQ_RAW) &
		 MINIVMM_CAM_IRQ_DONE << node->channel);
}

static void mcam_new_frame(struct mcam *cam)
{
	u32 sequence = mcam_read(cam, MINIVMM_CAM_FRAME_SEQUENCE);

	/* A frame that begins during this function is seen twice. */
	if (sequence != cam->frame_sequence)
		mcam_frame_sync(cam, sequence);
	cam->frame_sequence = sequence;
}

/* Handles @events. True if a buffer is finished. */
static bool mcam_handle(struct mcam *cam, u32 events)
{
	u32 done = events & MCAM_IRQ_DONE_ALL;
	bool finished = false;
	unsigned int i;

	lockdep_assert_held(&cam->slock);

	if (events & MCAM_IRQ_ERRORS)
		mcam_report_errors(cam, events);

	/*
	 * Acknowledge before reading the device's state, so that a later event
	 * is a new edge. DONE is different: it keeps the DONE registers, and its
	 * acknowledgement lets the next frame overwrite them.
	 */
	if (events != done)
		mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, events ^ done);
	if (events & MINIVMM_CAM_IRQ_FRAME_START)
		mcam_new_frame(cam);
	for (i = 0; done && i < cam->num_nodes; i++)
		if (done & MINIVMM_CAM_IRQ_DONE << i && cam->nodes[i].streaming)
			mcam_frame_done(&cam->nodes[i]);
	if (done)
		mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, done);
	for (i = 0; i < cam->num_nodes; i++) {
		struct mcam_node *node = &cam->nodes[i];

		if (node->streaming) {
			if (events & MCAM_IRQ_ERRORS &&
			    (mcam_node_is_idle(node) ||
			     mcam_has_bug(MCAM_BUG_EARLY_RETURN)))
				mcam_fail_before(node, NULL);
			mcam_commit_next(node);
		}
		finished |= !list_empty(&node->finished);
		if (events & MINIVMM_CAM_IRQ_STOPPED << i)
			complete(&node->stopped);
	}
	return finished;
}

irqreturn_t mcam_irq(int irq, void *data)
{
	struct mcam *cam = data;
	bool finished;
	u32 events;

	spin_lock(&cam->slock);
	cam->irqs++;
	events = mcam_read(cam, MINIVMM_CAM_IRQ_STATUS);
	finished = mcam_handle(cam, events);
	spin_unlock(&cam->slock);

	if (!events)
		return IRQ_NONE;
	return finished ? IRQ_WAKE_THREAD : IRQ_HANDLED;
}

/* Returns finished buffers to programs. */
static void mcam_hand_over(struct mcam_node *node)
{
	struct mcam_buffer *buf, *next;
	LIST_HEAD(finished);

	lockdep_assert_held(&node->cam->lock);

	spin_lock_irq(&node->cam->slock);
	list_splice_init(&node->finished, &finished);
	spin_unlock_irq(&node->cam->slock);
	list_for_each_entry_safe(buf, next, &finished, queue) {
		list_del_init(&buf->queue);
		vb2_buffer_done(&buf->vb.vb2_buf, buf->result);
	}
}

irqreturn_t mcam_irq_thread(int irq, void *data)
{
	struct mcam *cam = data;
	unsigned int i;

	mutex_lock(&cam->lock);
	for (i = 0; i < cam->num_nodes; i++)
		mcam_hand_over(&cam->nodes[i]);
	mutex_unlock(&cam->lock);
	return IRQ_HANDLED;
}

/* Whether one of the first @num_nodes nodes streams. */
static bool mcam_is_streaming(struct mcam *cam, unsigned int num_nodes)
{
	unsigned int i;

	for (i = 0; i < num_nodes; i++)
		if (cam->nodes[i].streaming)
			return true;
	return false;
}

/*
 * If an event is still there at the second look and no interrupt came, the
 * interrupt is lost. If the driver has buffers in flight and the device is idle
 * at both looks, a commit is lost.
 */
void mcam_watchdog(struct work_struct *work)
{
	struct mcam *cam = container_of(to_delayed_work(work), struct mcam,
					watchdog);
	bool streaming;
	unsigned int i;
	u32 events;

	mutex_lock(&cam->lock);
	spin_lock_irq(&cam->slock);
	streaming = mcam_is_streaming(cam, cam->num_nodes);
	events = streaming ? mcam_read(cam, MINIVMM_CAM_IRQ_STATUS) : 0;
	if (events & cam->unanswered && !cam->irqs) {
		dev_warn_ratelimited(cam->dev,
				     "lost an interrupt, events %#x\n", events);
		mcam_handle(cam, events);
		events = 0;
	}
	cam->unanswered = events;
	for (i = 0; i < cam->num_nodes; i++) {
		struct mcam_node *node = &cam->nodes[i];
		bool idle = node->streaming && !list_empty(&node->inflight) &&
			    mcam_node_is_idle(node);

		if (idle && node->idle && !cam->irqs) {
			dev_warn_ratelimited(cam->dev,
					     "channel %u lost a buffer\n", i);
			mcam_fail_before(node, NULL);
			mcam_commit_next(node);
			idle = false;
		}
		node->idle = idle;
	}
	cam->irqs = 0;
	spin_unlock_irq(&cam->slock);
	for (i = 0; i < cam->num_nodes; i++)
		mcam_hand_over(&cam->nodes[i]);
	if (streaming)
		schedule_delayed_work(&cam->watchdog,
				      msecs_to_jiffies(MCAM_WATCHDOG_MS));
	mutex_unlock(&cam->lock);
}

static struct mcam_buffer *to_mcam_buffer(struct vb2_buffer *vb)
{
	return container_of(to_vb2_v4l2_buffer(vb), struct mcam_buffer, vb);
}

static int mcam_queue_setup(struct vb2_queue *vq, unsigned int *num_buffers,
			    unsigned int *num_planes, unsigned int sizes[],
			    struct device *alloc_devs[])
{
	struct mcam_node *node = vb2_get_drv_priv(vq);
	unsigned int i;

	if (*num_planes && *num_planes != node->mem_planes)
		return -EINVAL;
	for (i = 0; i < node->mem_planes; i++) {
		u32 size = mcam_plane_size(node, i);

		if (*num_planes && sizes[i] < size)
			return -EINVAL;
		if (!*num_planes)
			sizes[i] = size;
	}
	*num_planes = node->mem_planes;
	return 0;
}

static int mcam_buf_init(struct vb2_buffer *vb)
{
	struct mcam_node *node = vb2_get_drv_priv(vb->vb2_queue);
	struct mcam_buffer *buf = to_mcam_buffer(vb);
	struct mcam *cam = node->cam;
	unsigned int i;

	buf->addr = vb2_dma_contig_plane_dma_addr(vb, 0);
	list_add_tail(&buf->entry, &node->buffers);
	for (i = 0; i < vb->num_planes; i++) {
		dma_addr_t addr = vb2_dma_contig_plane_dma_addr(vb, i);

		if (!cam->extent_end || addr < cam->extent_start)
			cam->extent_start = addr;
		cam->extent_end = max(cam->extent_end,
				      addr + vb2_plane_size(vb, i));
	}
	return 0;
}

static void mcam_buf_cleanup(struct vb2_buffer *vb)
{
	list_del(&to_mcam_buffer(vb)->entry);
}

static int mcam_buf_prepare(struct vb2_buffer *vb)
{
	struct mcam_node *node = vb2_get_drv_priv(vb->vb2_queue);
	unsigned int i;

	if (V4L2_TYPE_IS_OUTPUT(vb->type)) {
		unsigned long bytes = vb2_get_plane_payload(vb, 0);

		/* A smaller buffer has no header. A larger one is invalid. */
		return bytes < sizeof(struct minivmm_params_buffer) ||
		       bytes > node->format.sizeimage ? -EINVAL : 0;
	}
	for (i = 0; i < vb->num_planes; i++) {
		u32 size = mcam_plane_size(node, i);

		if (vb2_plane_size(vb, i) >= size)
			continue;
		dev_dbg(node->cam->dev,
			"plane %u of buffer %u has %lu bytes, a frame's %u\n",
			i, vb->index, vb2_plane_size(vb, i), size);
		return -EINVAL;
	}
	return 0;
}

static void mcam_buf_queue(struct vb2_buffer *vb)
{
	struct mcam_node *node = vb2_get_drv_priv(vb->vb2_queue);
	unsigned long flags;

	spin_lock_irqsave(&node->cam->slock, flags);
	list_add_tail(&to_mcam_buffer(vb)->queue, &node->queued);
	if (node->streaming)
		mcam_commit_next(node);
	spin_unlock_irqrestore(&node->cam->slock, flags);
}

static void mcam_return_buffers(struct mcam_node *node,
				enum vb2_buffer_state state)
{
	struct mcam_buffer *buf;

	spin_lock_irq(&node->cam->slock);
	list_for_each_entry(buf, &node->inflight, queue)
		buf->result = state;
	list_for_each_entry(buf, &node->queued, queue)
		buf->result = state;
	list_splice_tail_init(&node->inflight, &node->finished);
	list_splice_tail_init(&node->queued, &node->finished);
	spin_unlock_irq(&node->cam->slock);
	mcam_hand_over(node);
}

static int mcam_start_streaming(struct vb2_queue *vq, unsigned int count)
{
	struct mcam_node *node = vb2_get_drv_priv(vq);
	u32 own = MCAM_IRQ_NODE_EVENTS << node->channel;
	struct mcam *cam = node->cam;
	int ret;

	if (cam->gone) {
		ret = -ENODEV;
		goto err_return;
	}
	/* The device is busy only if an earlier stream could not be stopped. */
	if (!mcam_is_streaming(cam, cam->num_nodes) &&
	    mcam_read(cam, MINIVMM_CAM_STATUS)) {
		ret = mcam_reset(cam);
		if (ret)
			goto err_return;
	}
	ret = v4l2_ctrl_handler_setup(&cam->ctrls);
	if (ret)
		goto err_return;

	spin_lock_irq(&cam->slock);
	if (!mcam_is_streaming(cam, cam->num_nodes)) {
		cam->irq_enable = MCAM_IRQ_EVENTS;
		mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, MCAM_IRQ_EVENTS);
	}
	/* The first node of frames starts the sensor. */
	if (!mcam_is_streaming(cam, MCAM_CAPTURE_NODES)) {
		mcam_program_interval(cam);
		cam->frame_sequence = U32_MAX;
	}
	mcam_program_format(node);
	node->next_sequence = 0;
	node->streaming = true;
	cam->irq_enable |= own;
	mcam_write(cam, MINIVMM_CAM_IRQ_STATUS, own);
	mcam_write(cam, MINIVMM_CAM_IRQ_ENABLE, cam->irq_enable);
	mcam_commit_next(node);
	cam->ctrl |= MINIVMM_CAM_CTRL_ENABLE << node->channel;
	mcam_write(cam, MINIVMM_CAM_CTRL, cam->ctrl);
	spin_unlock_irq(&cam->slock);
	if (!mcam_has_bug(MCAM_BUG_NO_WATCHDOG))
		schedule_delayed_work(&cam->watchdog,
				      msecs_to_jiffies(MCAM_WATCHDOG_MS));
	return 0;

err_return:
	mcam_return_buffers(node, VB2_BUF_STATE_QUEUED);
	return ret;
}

/* Ends the other streams, too: the reset discards their frames. */
static void mcam_reset_all(struct mcam *cam)
{
	unsigned int i;

	mcam_reset(cam);
	spin_lock_irq(&cam->slock);
	cam->ctrl = 0;
	spin_unlock_irq(&cam->slock);
	for (i = 0; i < cam->num_nodes; i++)
		if (cam->nodes[i].streaming)
			vb2_queue_error(&cam->nodes[i].vbq);
}

static void mcam_stop_streaming(struct vb2_queue *vq)
{
	struct mcam_node *node = vb2_get_drv_priv(vq);
	u32 enable = MINIVMM_CAM_CTRL_ENABLE << node->channel;
	struct mcam *cam = node->cam;
	bool enabled;

	spin_lock_irq(&cam->slock);
	node->streaming = false;
	reinit_completion(&node->stopped);
	enabled = cam->ctrl & enable;
	cam->ctrl &= ~enable;
	mcam_write(cam, MINIVMM_CAM_CTRL, cam->ctrl);
	spin_unlock_irq(&cam->slock);

	if (enabled &&
	    !wait_for_completion_timeout(&node->stopped,
					 msecs_to_jiffies(MCAM_STOP_TIMEOUT_MS))) {
		dev_warn(cam->dev, "no end of the frame in work, resetting\n");
		mcam_reset_all(cam);
	}
	spin_lock_irq(&cam->slock);
	cam->irq_enable &= ~(MCAM_IRQ_NODE_EVENTS << node->channel);
	if (!mcam_is_streaming(cam, cam->num_nodes))
		cam->irq_enable = 0;
	mcam_write(cam, MINIVMM_CAM_IRQ_ENABLE, cam->irq_enable);
	spin_unlock_irq(&cam->slock);
	mcam_return_buffers(node, VB2_BUF_STATE_ERROR);
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

int mcam_queue_init(struct mcam_node *node, enum v4l2_buf_type type,
		    unsigned int io_modes, unsigned int min_buffers)
{
	struct vb2_queue *q = &node->vbq;

	q->type = type;
	q->io_modes = io_modes;
	q->dev = node->cam->dev;
	q->drv_priv = node;
	q->lock = &node->cam->lock;
	q->ops = &mcam_vb2_ops;
	q->mem_ops = &vb2_dma_contig_memops;
	q->buf_struct_size = sizeof(struct mcam_buffer);
	q->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	q->min_buffers_needed = min_buffers;
#else
	q->min_queued_buffers = min_buffers;
#endif
	return vb2_queue_init(q);
}
