// SPDX-License-Identifier: GPL-2.0-only
/*
 * The driver with a deliberate bug, for experiments to find:
 *
 *	rmmod minivmm_camera
 *	insmod minivmm-camera-buggy.ko bug=lost-buffer
 *
 * The parameter selects the bug; without it there is none. minivmm-camera.h
 * describes the bugs, and mcam_has_bug() marks their places.
 */

#define MCAM_BUGGY

#include <linux/module.h>
#include <linux/string.h>

#include "minivmm-camera.h"

static const char * const mcam_bug_names[] = {
	[MCAM_BUG_NONE] = "",
	[MCAM_BUG_LOST_BUFFER] = "lost-buffer",
	[MCAM_BUG_SHORT_FRAME] = "short-frame",
	[MCAM_BUG_EARLY_RETURN] = "early-return",
	[MCAM_BUG_NO_WATCHDOG] = "no-watchdog",
	[MCAM_BUG_DMA_LENGTH] = "dma-length",
};

static int mcam_bug_set(const char *value, const struct kernel_param *kp)
{
	int bug = sysfs_match_string(mcam_bug_names, value);

	if (bug < 0)
		return bug;
	mcam_bug = bug;
	return 0;
}

static int mcam_bug_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", mcam_bug_names[mcam_bug]);
}

static const struct kernel_param_ops mcam_bug_ops = {
	.set = mcam_bug_set,
	.get = mcam_bug_get,
};
module_param_cb(bug, &mcam_bug_ops, NULL, 0444);
MODULE_PARM_DESC(bug, "the mistake to make");

/* All sources in one, so that they are compiled with MCAM_BUGGY. */
#include "driver.c"
#include "video.c"
#include "meta.c"
#include "subdev.c"
#include "controls.c"
#include "formats.c"
#include "events.c"
#include "hardware.c"
#include "stream.c"
#include "debugfs.c"
