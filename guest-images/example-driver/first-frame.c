// SPDX-License-Identifier: GPL-2.0-only
/* Captures one frame of minivmm's camera, and shows it as /sys/kernel/debug/first-frame/frame. */

#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>

#include "minivmm-camera-regs.h"

#define CAM(name)	MINIVMM_CAM_##name
#define GREY		0x59455247	/* one plane, one byte for each pixel */
#define WIDTH		640
#define HEIGHT		480

struct first_frame {
	void __iomem *regs;
	dma_addr_t address;
	struct completion done;
	struct debugfs_blob_wrapper frame;
	struct dentry *folder;
};

static irqreturn_t first_frame_irq(int irq, void *data)
{
	struct first_frame *ff = data;
	u32 events = readl(ff->regs + CAM(IRQ_STATUS));

	if (!events)
		return IRQ_NONE;
	/* CH_DONE_* are read before IRQ_DONE is acknowledged. */
	ff->frame.size = readl(ff->regs + CAM(CH_DONE_BYTES));
	writel(events, ff->regs + CAM(IRQ_STATUS));
	complete(&ff->done);
	return IRQ_HANDLED;
}

/* Resets the camera, and waits until it no longer writes to memory. */
static void first_frame_reset(void *data)
{
	struct first_frame *ff = data;
	u32 status;

	debugfs_remove(ff->folder);
	writel(CAM(CTRL_RESET), ff->regs + CAM(CTRL));
	if (readl_poll_timeout(ff->regs + CAM(STATUS), status, !status, 100, 1000000))
		pr_err("first-frame: the camera is busy after a reset\n");
}

static int first_frame_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct first_frame *ff;
	unsigned int lines;
	int irq, ret;

	ff = devm_kzalloc(dev, sizeof(*ff), GFP_KERNEL);
	if (!ff)
		return -ENOMEM;
	init_completion(&ff->done);
	ff->regs = devm_platform_ioremap_resource(pdev, 0);
	if (IS_ERR(ff->regs))
		return PTR_ERR(ff->regs);
	if (readl(ff->regs + CAM(ID)) != CAM(ID_VALUE))
		return dev_err_probe(dev, -ENODEV, "not a minivmm camera\n");

	/* The buffer: in the node's memory-region, or else in the default CMA area. */
	lines = readl(ff->regs + CAM(CAPS)) >> 8 & 0xff;
	ret = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(lines));
	if (ret)
		return ret;
	ret = of_reserved_mem_device_init(dev);
	if (ret && ret != -ENODEV)
		return ret;
	ff->frame.data = dmam_alloc_coherent(dev, WIDTH * HEIGHT, &ff->address, GFP_KERNEL);
	if (!ff->frame.data)
		return -ENOMEM;

	first_frame_reset(ff);
	irq = platform_get_irq(pdev, 0);
	if (irq < 0)
		return irq;
	ret = devm_request_irq(dev, irq, first_frame_irq, 0, dev_name(dev), ff);
	if (ret)
		return ret;
	ret = devm_add_action_or_reset(dev, first_frame_reset, ff);
	if (ret)
		return ret;

	writel(CAM(IRQ_DONE), ff->regs + CAM(IRQ_ENABLE));
	writel(GREY, ff->regs + CAM(CH_FORMAT));
	writel(HEIGHT << 16 | WIDTH, ff->regs + CAM(CH_SIZE));
	writel(WIDTH, ff->regs + CAM(CH_STRIDE0));
	writel(lower_32_bits(ff->address), ff->regs + CAM(CH_ADDR0_LO));
	writel(upper_32_bits(ff->address), ff->regs + CAM(CH_ADDR0_HI));
	writel(WIDTH * HEIGHT, ff->regs + CAM(CH_LEN0));
	writel(1, ff->regs + CAM(CH_COMMIT));
	writel(CAM(CTRL_ENABLE), ff->regs + CAM(CTRL));
	if (!wait_for_completion_timeout(&ff->done, 10 * HZ))
		return dev_err_probe(dev, -ETIMEDOUT, "no frame; events %#x\n",
				     readl(ff->regs + CAM(IRQ_RAW)));
	writel(0, ff->regs + CAM(CTRL));

	dev_info(dev, "frame of %lu bytes at %pad\n", ff->frame.size, &ff->address);
	ff->folder = debugfs_create_dir("first-frame", NULL);
	debugfs_create_blob("frame", 0444, ff->folder, &ff->frame);
	return 0;
}

static const struct of_device_id first_frame_of_match[] = {
	{ .compatible = "minivmm,camera" },
	{ }
};
MODULE_DEVICE_TABLE(of, first_frame_of_match);

static struct platform_driver first_frame_driver = {
	.probe = first_frame_probe,
	.driver = {
		.name = "first-frame",
		.of_match_table = first_frame_of_match,
	},
};
module_platform_driver(first_frame_driver);

MODULE_DESCRIPTION("Captures one frame of minivmm's camera");
MODULE_LICENSE("GPL");
