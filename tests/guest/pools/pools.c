// SPDX-License-Identifier: GPL-2.0
/*
 * Asks for every reserved-memory region that the device tree offers, and prints what the kernel answers.
 *
 * The lines are "pools: ...", for the differential test of `minivmm check` (tests/src/reserved).
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_reserved_mem.h>
#include <linux/platform_device.h>

/* The size of an allocation: more than a page, since the default window serves no single pages. */
#define SIZE (2 * PAGE_SIZE)

static void show_allocation(struct device *dev, const char *name, int index)
{
	dma_addr_t address;
	void *memory = dma_alloc_coherent(dev, SIZE, &address, GFP_KERNEL | __GFP_NOWARN);

	if (memory) {
		pr_info("pools: alloc %s %d %#llx\n", name, index, (unsigned long long)address);
		dma_free_coherent(dev, SIZE, memory, address);
	} else {
		pr_info("pools: alloc %s %d none\n", name, index);
	}
}

static const char *kind(struct device *dev)
{
#ifdef CONFIG_DMA_CMA
	if (dev->cma_area)
		return "cma";
#endif
#ifdef CONFIG_DMA_DECLARE_COHERENT
	if (dev->dma_mem)
		return "coherent";
#endif
	return "other";
}

static int pools_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	const char *name = dev->of_node->full_name;
	int length = of_property_count_u32_elems(dev->of_node, "memory-region");
	int index;

	/* Pools can be anywhere. */
	dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (length <= 0)
		show_allocation(dev, name, -1);
	for (index = 0; index < length; index++) {
		int ret = of_reserved_mem_device_init_by_idx(dev, dev->of_node, index);

		pr_info("pools: init %s %d %d %s\n", name, index, ret, ret ? "-" : kind(dev));
		if (ret)
			continue;
		show_allocation(dev, name, index);
		of_reserved_mem_device_release(dev);
	}
	return -ENODEV;
}

static const struct of_device_id pools_match[] = {
	{ .compatible = "minivmm,pools" },
	{ }
};

static struct platform_driver pools_driver = {
	.probe = pools_probe,
	.driver = {
		.name = "pools",
		.of_match_table = pools_match,
	},
};

static int __init pools_init(void)
{
	struct device_node *parent, *child;

	/* Linux reads the first such node, with or without a unit address (fdt_path_offset). */
	for_each_child_of_node(of_root, parent)
		if (of_node_name_eq(parent, "reserved-memory"))
			break;
	for_each_child_of_node(parent, child) {
		struct reserved_mem *region = of_reserved_mem_lookup(child);

		if (region)
			pr_info("pools: region %s %#llx %#llx %s\n", child->full_name, (unsigned long long)region->base,
				(unsigned long long)region->size, region->ops ? "pool" : "-");
	}
	of_node_put(parent);
	platform_driver_register(&pools_driver);
	platform_driver_unregister(&pools_driver);
	return -EAGAIN;
}
module_init(pools_init);

MODULE_DESCRIPTION("Prints which reserved memory its devices get");
MODULE_LICENSE("GPL");
