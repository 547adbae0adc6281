// SPDX-License-Identifier: GPL-2.0-only
/*
 * Deliberate mistakes, one for each checker of the debug image. They show that a
 * test which finds no mistake could have found one.
 *
 *	insmod minivmm-mistakes.ko mistake=leak
 *
 * makes a mistake while the module is loaded, and does no lasting damage. The
 * comment of each function names the checker that reports it.
 */

#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

static char *mistake = "";
module_param(mistake, charp, 0444);
MODULE_PARM_DESC(mistake, "the mistake to make");

/* Receives results, so that the compiler does not remove their computation. */
static int sink;

/* Lockdep: two nested locks, taken in both orders. */
static int mistake_lock_order(void)
{
	static DEFINE_MUTEX(one);
	static DEFINE_MUTEX(other);

	mutex_lock(&one);
	mutex_lock(&other);
	mutex_unlock(&other);
	mutex_unlock(&one);

	mutex_lock(&other);
	mutex_lock(&one);
	mutex_unlock(&one);
	mutex_unlock(&other);
	return 0;
}

/* DEBUG_ATOMIC_SLEEP: a sleeping lock inside a spinlock. */
static int mistake_sleep(void)
{
	static DEFINE_SPINLOCK(spinning);
	static DEFINE_MUTEX(sleeping);

	spin_lock(&spinning);
	mutex_lock(&sleeping);
	mutex_unlock(&sleeping);
	spin_unlock(&spinning);
	return 0;
}

/* UBSAN: a shift by more bits than the type has. */
static int mistake_shift(void)
{
	unsigned int bits = 40;

	OPTIMIZER_HIDE_VAR(bits);
	WRITE_ONCE(sink, 1 << bits);
	return 0;
}

/* DMA-API: a mapping is unmapped with a smaller size. */
static int mistake_dma(void)
{
	struct platform_device *pdev;
	dma_addr_t addr;
	void *memory;
	int ret = -ENOMEM;

	pdev = platform_device_register_simple("minivmm-mistakes",
					       PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	memory = kmalloc(PAGE_SIZE, GFP_KERNEL | GFP_DMA32);
	if (!memory)
		goto unregister;
	addr = dma_map_single(&pdev->dev, memory, PAGE_SIZE, DMA_FROM_DEVICE);
	ret = dma_mapping_error(&pdev->dev, addr);
	if (!ret)
		dma_unmap_single(&pdev->dev, addr, PAGE_SIZE / 2,
				 DMA_FROM_DEVICE);
	kfree(memory);
unregister:
	platform_device_unregister(pdev);
	return ret;
}

/* DEBUG_LIST: an entry is added to a list twice. */
static int mistake_list(void)
{
	static LIST_HEAD(list);
	static LIST_HEAD(entry);

	list_add(&entry, &list);
	list_add(&entry, &list);
	return 0;
}

static void mistake_timer_expired(struct timer_list *timer)
{
}

/* DEBUG_OBJECTS: an active timer is freed. */
static int mistake_timer(void)
{
	struct timer_list *timer = kmalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return -ENOMEM;
	timer_setup(timer, mistake_timer_expired, 0);
	mod_timer(timer, jiffies + 3600 * HZ);
	kfree(timer);
	return 0;
}

/* kmemleak: eight leaks, because other data can look like a pointer to one. */
static int mistake_leak(void)
{
	unsigned int i;

	for (i = 0; i < 8; i++) {
		void *memory = kmalloc(256, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(memory);
	}
	return 0;
}

/* KASAN: a read from freed memory. */
static int mistake_use_after_free(void)
{
	char *memory = kzalloc(256, GFP_KERNEL);

	if (!memory)
		return -ENOMEM;
	kfree(memory);
	OPTIMIZER_HIDE_VAR(memory);
	WRITE_ONCE(sink, READ_ONCE(memory[100]));
	return 0;
}

static const struct {
	const char *name;
	int (*make)(void);
} mistakes[] = {
	{ "lock-order", mistake_lock_order },
	{ "sleep", mistake_sleep },
	{ "shift", mistake_shift },
	{ "dma", mistake_dma },
	{ "list", mistake_list },
	{ "timer", mistake_timer },
	{ "leak", mistake_leak },
	{ "use-after-free", mistake_use_after_free },
};

static int __init mistakes_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mistakes); i++)
		if (!strcmp(mistake, mistakes[i].name))
			return mistakes[i].make();
	pr_err("minivmm-mistakes: there is no mistake '%s'\n", mistake);
	return -EINVAL;
}
module_init(mistakes_init);

static void __exit mistakes_exit(void)
{
}
module_exit(mistakes_exit);

MODULE_DESCRIPTION("Deliberate mistakes, for the tests of the debug image");
MODULE_LICENSE("GPL");
