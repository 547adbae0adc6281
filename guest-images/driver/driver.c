// SPDX-License-Identifier: GPL-2.0-only
/*
 * V4L2 driver of minivmm's camera: probe and removal.
 *
 * The camera is a device-tree platform device (compatible = "minivmm,camera")
 * that writes frames by DMA to physical addresses; minivmm-camera-regs.h has
 * its registers. The driver registers a media device:
 *
 *	sensor -> isp -> /dev/video0	processed frames
 *	       `-------> /dev/video1	raw frames
 *	          isp -> /dev/video2	statistics of the processed frames
 *	          isp <- /dev/video3	parameters for them
 *
 * A camera without an ISP has only the first two. The buffers come from the CMA
 * area of the device's memory-region or, without a memory-region, from the
 * default area (videobuf2-dma-contig).
 *
 * The other parts: video.c has the ioctls of the capture nodes, formats.c their
 * formats, meta.c the metadata nodes, subdev.c the sub-devices, controls.c the
 * controls and the frame interval, stream.c the queues and the interrupt,
 * debugfs.c the addresses of the buffers and the device's counters.
 *
 * To build: make -C KERNEL M=$PWD modules
 */

#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <media/videobuf2-dma-contig.h>

#include "minivmm-camera.h"

/* Checks the device, and resets it. */
static int mcam_init_device(struct mcam *cam)
{
	u32 id = mcam_read(cam, MINIVMM_CAM_ID);
	u32 version = mcam_read(cam, MINIVMM_CAM_VERSION);
	u32 caps = mcam_read(cam, MINIVMM_CAM_CAPS);
	unsigned int channels = caps & 0xf;
	unsigned int planes = caps >> 4 & 0xf;
	unsigned int lines = caps >> 8 & 0xff;
	int ret;

	if (id != MINIVMM_CAM_ID_VALUE)
		return dev_err_probe(cam->dev, -ENODEV,
				     "not a minivmm camera: ID is %#x, not %#x\n",
				     id, MINIVMM_CAM_ID_VALUE);
	if (version >> 16 != MINIVMM_CAM_VERSION_VALUE >> 16)
		return dev_err_probe(cam->dev, -ENODEV,
				     "register map is %u.%u, this driver is for %u\n",
				     version >> 16, version & 0xffff,
				     MINIVMM_CAM_VERSION_VALUE >> 16);
	if (channels < MCAM_CAPTURE_NODES || planes < MCAM_MAX_PLANES ||
	    lines < 1 || lines > 64)
		return dev_err_probe(cam->dev, -ENODEV,
				     "%u channels, %u planes and %u address lines, where %u, %u and 1 to 64 are needed\n",
				     channels, planes, lines,
				     MCAM_CAPTURE_NODES, MCAM_MAX_PLANES);

	cam->num_nodes = MCAM_CAPTURE_NODES;
	if (caps & MINIVMM_CAM_CAPS_ISP && channels >= MINIVMM_CAM_CHANNELS)
		cam->num_nodes = MINIVMM_CAM_CHANNELS;

	ret = dma_set_mask_and_coherent(cam->dev, DMA_BIT_MASK(lines));
	if (ret)
		return dev_err_probe(cam->dev, ret,
				     "no DMA with %u address lines\n", lines);
	vb2_dma_contig_set_max_seg_size(cam->dev, UINT_MAX);
	return mcam_reset(cam);
}

static bool mcam_has_area(struct device *dev)
{
#ifdef CONFIG_DMA_CMA
	if (dev->cma_area)
		return true;
#endif
#ifdef CONFIG_DMA_DECLARE_COHERENT
	if (dev->dma_mem)
		return true;
#endif
	return false;
}

/*
 * A device without a memory-region uses the default area.
 *
 * The area is never released. A mapped or exported buffer can outlive the binding
 * and even the module, and is then freed to the area that the device has.
 */
static int mcam_init_memory(struct mcam *cam)
{
	int ret;

	if (mcam_has_area(cam->dev))
		return 0;
	ret = of_reserved_mem_device_init(cam->dev);
	if (!ret || !of_find_property(cam->dev->of_node, "memory-region", NULL))
		return 0;
	return dev_err_probe(cam->dev, ret,
			     "memory-region is not an area that the kernel reserved\n");
}

/* Called when all files are closed, all buffers unmapped and the device unbound. */
static void mcam_release(struct v4l2_device *v4l2_dev)
{
	struct mcam *cam = container_of(v4l2_dev, struct mcam, v4l2_dev);

	v4l2_ctrl_handler_free(&cam->ctrls);
	media_device_cleanup(&cam->mdev);
	mutex_destroy(&cam->lock);
	put_device(cam->dev);
	kfree(cam);
}

static void mcam_put(void *data)
{
	struct mcam *cam = data;

	dev_set_drvdata(cam->dev, NULL);
	v4l2_device_unregister(&cam->v4l2_dev);
	v4l2_device_put(&cam->v4l2_dev);
}

static struct mcam *mcam_alloc(struct device *dev)
{
	struct mcam *cam;
	unsigned int i;
	int ret;

	cam = kzalloc(sizeof(*cam), GFP_KERNEL);
	if (!cam)
		return ERR_PTR(-ENOMEM);

	cam->dev = get_device(dev);
	mutex_init(&cam->lock);
	spin_lock_init(&cam->slock);
	INIT_DELAYED_WORK(&cam->watchdog, mcam_watchdog);
	for (i = 0; i < ARRAY_SIZE(cam->nodes); i++) {
		struct mcam_node *node = &cam->nodes[i];

		node->cam = cam;
		node->channel = i;
		init_completion(&node->stopped);
		INIT_LIST_HEAD(&node->buffers);
		INIT_LIST_HEAD(&node->queued);
		INIT_LIST_HEAD(&node->inflight);
		INIT_LIST_HEAD(&node->finished);
	}

	cam->mdev.dev = dev;
	strscpy(cam->mdev.model, MCAM_CARD, sizeof(cam->mdev.model));
	media_device_init(&cam->mdev);

	dev_set_drvdata(dev, cam);
	cam->v4l2_dev.mdev = &cam->mdev;
	cam->v4l2_dev.release = mcam_release;
	ret = v4l2_device_register(dev, &cam->v4l2_dev);
	if (ret)
		mcam_put(cam);
	else
		ret = devm_add_action_or_reset(dev, mcam_put, cam);
	return ret ? ERR_PTR(ret) : cam;
}

static void mcam_unregister(void *data)
{
	struct mcam *cam = data;
	unsigned int i;

	mcam_debugfs_remove(cam);
	for (i = 0; i < cam->num_nodes; i++)
		vb2_video_unregister_device(&cam->nodes[i].vdev);
	/*
	 * A program in its first read() does not own the queue yet, and can wait
	 * for the lock. End its stream, and prevent a new one. The ioctls of the
	 * sub-devices take only the lock of the controls.
	 */
	mutex_lock(&cam->lock);
	mutex_lock(cam->ctrls.lock);
	cam->gone = true;
	mutex_unlock(cam->ctrls.lock);
	for (i = 0; i < cam->num_nodes; i++)
		vb2_queue_release(&cam->nodes[i].vbq);
	mutex_unlock(&cam->lock);
	/* Without a stream it is not scheduled again. */
	cancel_delayed_work_sync(&cam->watchdog);
	mcam_subdevs_unregister(cam);
	media_device_unregister(&cam->mdev);
}

static int mcam_register(struct mcam *cam)
{
	int ret;

	ret = devm_add_action_or_reset(cam->dev, mcam_unregister, cam);
	if (ret)
		return ret;
	mcam_debugfs_add(cam);
	ret = mcam_nodes_register(cam);
	if (ret)
		return dev_err_probe(cam->dev, ret, "no video device\n");
	ret = mcam_subdevs_register(cam);
	if (ret)
		return dev_err_probe(cam->dev, ret, "no sub-device\n");
	ret = media_device_register(&cam->mdev);
	if (ret)
		return dev_err_probe(cam->dev, ret, "no media device\n");
	return 0;
}

/* devm undoes everything in reverse order, so there is no remove(). */
static int mcam_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct mcam *cam;
	int irq, ret;

	cam = mcam_alloc(dev);
	if (IS_ERR(cam))
		return PTR_ERR(cam);

	cam->regs = devm_platform_ioremap_resource(pdev, 0);
	if (IS_ERR(cam->regs))
		return dev_err_probe(dev, PTR_ERR(cam->regs), "no registers\n");
	irq = platform_get_irq(pdev, 0);
	if (irq < 0)
		return irq;

	ret = mcam_init_device(cam);
	if (ret)
		return ret;
	ret = mcam_init_memory(cam);
	if (ret)
		return ret;
	ret = mcam_subdevs_init(cam);
	if (ret)
		return dev_err_probe(dev, ret, "no sensor and ISP\n");
	ret = mcam_video_init(cam);
	if (ret)
		return dev_err_probe(dev, ret, "no capture nodes\n");
	ret = mcam_init_ctrls(cam);
	if (ret)
		return dev_err_probe(dev, ret, "no controls\n");
	ret = mcam_meta_init(cam);
	if (ret)
		return dev_err_probe(dev, ret, "no nodes of metadata\n");
	ret = devm_request_threaded_irq(dev, irq, mcam_irq, mcam_irq_thread, 0,
					dev_name(dev), cam);
	if (ret)
		return dev_err_probe(dev, ret, "no interrupt\n");
	return mcam_register(cam);
}

static const struct of_device_id mcam_of_match[] = {
	{ .compatible = "minivmm,camera" },
	{ }
};
MODULE_DEVICE_TABLE(of, mcam_of_match);

static struct platform_driver mcam_driver = {
	.probe = mcam_probe,
	.driver = {
		.name = MCAM_NAME,
		.of_match_table = mcam_of_match,
	},
};

static int __init mcam_init(void)
{
	int ret;

	mcam_debugfs_init();
	ret = platform_driver_register(&mcam_driver);
	if (ret)
		mcam_debugfs_exit();
	return ret;
}
module_init(mcam_init);

static void __exit mcam_exit(void)
{
	platform_driver_unregister(&mcam_driver);
	mcam_debugfs_exit();
}
module_exit(mcam_exit);

MODULE_DESCRIPTION("V4L2 driver of minivmm's camera");
MODULE_LICENSE("GPL");
