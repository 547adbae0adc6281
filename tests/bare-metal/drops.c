/* SPDX-License-Identifier: Apache-2.0 */
/* Drops: the free-running frame clock continues without buffers, and counts the lost frames. */
#include "camera.h"

static int guest(void)
{
	u32 drops, sequence;

	interrupts_on(CAMERA_IRQ);
	CHECK(cam_read(CAM(TIMING)) == 0);
	/* The clock's limit: a period of 1 ms. */
	cam_write(CAM(FRAME_INTERVAL), 1);
	CHECK(cam_read(CAM(FRAME_INTERVAL)) == CAM(FRAME_INTERVAL_MIN));
	cam_write(CAM(FRAME_INTERVAL), 2000);
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_UNDERRUN));
	cam_write(CAM(CTRL), CAM(CTRL_ENABLE));
	for (u32 i = 0; i < 3; i++)
		CHECK(cam_wait(CAM(IRQ_UNDERRUN)) == CAM(IRQ_UNDERRUN));
	CHECK(cam_read(CAM(FRAMES)) == 0);

	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE));
	drops = cam_read(CAM(DROPS));
	CHECK(drops >= 3);
	cam_commit_grey(WINDOW);
	CHECK(cam_wait(CAM(IRQ_DONE)) & CAM(IRQ_DONE));
	sequence = cam_read(CAM(CH_DONE_SEQUENCE));
	/* The sequence number counts dropped frames. */
	CHECK(sequence >= drops);
	CHECK(sequence <= cam_read(CAM(DROPS)));
	CHECK(stamp_at(WINDOW)->magic == STAMP_MAGIC);
	CHECK(stamp_at(WINDOW)->sequence == sequence);
	CHECK(cam_read(CAM(FRAMES)) == 1);

	/* The channel stops at once without a frame in work. Then no more frames are dropped. */
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_STOPPED));
	cam_write(CAM(CTRL), 0);
	CHECK(cam_wait(CAM(IRQ_STOPPED)) & CAM(IRQ_STOPPED));
	drops = cam_read(CAM(DROPS));
	for (u32 i = 0; i < 1000; i++)
		(void)cam_read(CAM(STATUS));
	CHECK(cam_read(CAM(DROPS)) == drops);
	return 0;
}
