/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: resets the camera, and has it write frames of the smallest size to three buffers in turn, without end. It polls the camera's
 * status and takes no interrupts, whose number has a limit. */
#include "camera.h"

/* Whole pages for GREY_BYTES. */
#define BUFFER 0x5000

static int guest(void)
{
	interrupts_on(CAMERA_IRQ);
	cam_write(CAM(CTRL), CAM(CTRL_RESET));
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE));
	write32(EXIT, 1);
	cam_write(CAM(CTRL), CAM(CTRL_ENABLE));
	for (u64 frame = 0;; frame++) {
		cam_commit_grey(WINDOW + frame % 3 * BUFFER);
		while (!(cam_read(CAM(IRQ_STATUS)) & CAM(IRQ_DONE)))
			;
		cam_write(CAM(IRQ_STATUS), CAM(IRQ_DONE));
	}
	return 0;
}
