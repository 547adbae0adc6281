// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files in debugfs, under minivmm-camera/DEVICE/:
 *
 *   buffers      a line for each buffer of /dev/video0, or for each separate plane
 *                of a buffer: index, DMA address, bytes, and dequeued,
 *                queued, inflight or done
 *   buffers-raw, buffers-statistics, buffers-params
 *                the same for the other nodes
 *   extent       the lowest address of all buffers since the driver was bound,
 *                and the address after the highest
 *   counters     a line for each of the device's counters: name, value; the
 *                last ones belong to the nodes
 */

#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <media/videobuf2-dma-contig.h>

#include "minivmm-camera.h"

static struct dentry *mcam_debugfs_root;

static bool mcam_is_among(struct list_head *list, struct mcam_buffer *buf)
{
	struct mcam_buffer *other;

	list_for_each_entry(other, list, queue)
		if (other == buf)
			return true;
	return false;
}

static const char *mcam_buffer_state(struct mcam_node *node,
				     struct mcam_buffer *buf)
{
	if (mcam_is_among(&node->inflight, buf))
		return "inflight";
	if (mcam_is_among(&node->finished, buf))
		return "done";
	switch (buf->vb.vb2_buf.state) {
	case VB2_BUF_STATE_QUEUED:
	case VB2_BUF_STATE_ACTIVE:
		return "queued";
	case VB2_BUF_STATE_DONE:
	case VB2_BUF_STATE_ERROR:
		return "done";
	default:
		return "dequeued";
	}
}

static int mcam_buffers_show(struct seq_file *s, void *unused)
{
	struct mcam_node *node = s->private;
	struct mcam *cam = node->cam;
	struct mcam_buffer *buf;
	unsigned int i;

	mutex_lock(&cam->lock);
	spin_lock_irq(&cam->slock);
	list_for_each_entry(buf, &node->buffers, entry) {
		struct vb2_buffer *vb = &buf->vb.vb2_buf;

		for (i = 0; i < vb->num_planes; i++) {
			dma_addr_t addr = vb2_dma_contig_plane_dma_addr(vb, i);

			seq_printf(s, "%u %pad %lu %s\n", vb->index, &addr,
				   vb2_plane_size(vb, i),
				   mcam_buffer_state(node, buf));
		}
	}
	spin_unlock_irq(&cam->slock);
	mutex_unlock(&cam->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(mcam_buffers);

static int mcam_extent_show(struct seq_file *s, void *unused)
{
	struct mcam *cam = s->private;

	mutex_lock(&cam->lock);
	seq_printf(s, "%pad %pad\n", &cam->extent_start, &cam->extent_end);
	mutex_unlock(&cam->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(mcam_extent);

static const struct {
	const char *name;
	u32 reg;
} mcam_counters[] = {
	{ "frames", MINIVMM_CAM_FRAMES },
	{ "drops", MINIVMM_CAM_DROPS },
	{ "overflows", MINIVMM_CAM_OVERFLOWS },
	{ "bus_errors", MINIVMM_CAM_BUS_ERRORS },
	{ "sync_losses", MINIVMM_CAM_SYNC_LOSSES },
	{ "config_errors", MINIVMM_CAM_CONFIG_ERRORS },
	{ "irqs", MINIVMM_CAM_IRQS },
	{ "irqs_late", MINIVMM_CAM_IRQS_LATE },
}, mcam_node_counters[] = {
	{ "frames", MINIVMM_CAM_CH_FRAMES },
	{ "drops", MINIVMM_CAM_CH_DROPS },
};

static const char * const mcam_node_names[] = {
	[MINIVMM_CAM_CHANNEL_PROCESSED] = "processed",
	[MINIVMM_CAM_CHANNEL_RAW] = "raw",
	[MINIVMM_CAM_CHANNEL_STATISTICS] = "statistics",
	[MINIVMM_CAM_CHANNEL_PARAMS] = "params",
};

static_assert(ARRAY_SIZE(mcam_node_names) == MINIVMM_CAM_CHANNELS);

static int mcam_counters_show(struct seq_file *s, void *unused)
{
	struct mcam *cam = s->private;
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(mcam_counters); i++)
		seq_printf(s, "%s %u\n", mcam_counters[i].name,
			   mcam_read(cam, mcam_counters[i].reg));
	for (n = 0; n < cam->num_nodes; n++)
		for (i = 0; i < ARRAY_SIZE(mcam_node_counters); i++)
			seq_printf(s, "%s_%s %u\n", mcam_node_names[n],
				   mcam_node_counters[i].name,
				   mcam_node_read(&cam->nodes[n],
						  mcam_node_counters[i].reg));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(mcam_counters);

void mcam_debugfs_add(struct mcam *cam)
{
	char name[32] = "buffers";
	unsigned int i;

	cam->debugfs = debugfs_create_dir(dev_name(cam->dev),
					  mcam_debugfs_root);
	for (i = 0; i < cam->num_nodes; i++) {
		if (i)
			snprintf(name, sizeof(name), "buffers-%s",
				 mcam_node_names[i]);
		debugfs_create_file(name, 0444, cam->debugfs, &cam->nodes[i],
				    &mcam_buffers_fops);
	}
	debugfs_create_file("extent", 0444, cam->debugfs, cam,
			    &mcam_extent_fops);
	debugfs_create_file("counters", 0444, cam->debugfs, cam,
			    &mcam_counters_fops);
}

void mcam_debugfs_remove(struct mcam *cam)
{
	debugfs_remove(cam->debugfs);
}

void mcam_debugfs_init(void)
{
	mcam_debugfs_root = debugfs_create_dir(MCAM_NAME, NULL);
}

void mcam_debugfs_exit(void)
{
	debugfs_remove(mcam_debugfs_root);
}
