/* SPDX-License-Identifier: Apache-2.0 */
/* Stream: lets the camera write frames as fast as it can, and prints the nanoseconds that MEASURED of them took.
 * FORMAT, WIDTH, HEIGHT, PLANES (1, or 2 for NV12), BUFFERS, WARM_UP and MEASURED (frames) are compile-time. */
#include "camera.h"

#define PLANE0 ((u64)WIDTH * HEIGHT * (PLANES == 2 ? 1 : 2))
#define PLANE1 (PLANES == 2 ? (u64)WIDTH * HEIGHT / 2 : 0)
#define STRIDE (PLANE0 / HEIGHT)
#define PAGE_UP(bytes) (((bytes) + 0xfff) & ~0xfffUL)

static u64 buffer(u32 frame)
{
	return WINDOW + frame % BUFFERS * PAGE_UP(PLANE0 + PLANE1);
}

/* What does not change stays as it is. Windows are below 4 GiB. */
static void commit(u32 frame)
{
	cam_write(CAM(CH_ADDR0_LO), buffer(frame));
	if (PLANES == 2)
		cam_write(CAM(CH_ADDR1_LO), buffer(frame) + PLANE0);
	cam_write(CAM(CH_COMMIT), 1);
}

static u64 start_of_done_frame(void)
{
	return (u64)cam_read(CAM(DONE_TIME_HI)) << 32 | cam_read(CAM(DONE_TIME_LO));
}

static void print_number(u64 number)
{
	char text[24], *digit = text + sizeof(text);

	*--digit = 0;
	*--digit = '\n';
	do
		*--digit = '0' + number % 10;
	while (number /= 10);
	print(digit);
}

static int guest(void)
{
	u64 first = 0;

	interrupts_on(CAMERA_IRQ);
	cam_write(CAM(CH_FORMAT), FORMAT);
	cam_write(CAM(CH_SIZE), HEIGHT << 16 | WIDTH);
	cam_write(CAM(CH_STRIDE0), STRIDE);
	cam_write(CAM(CH_LEN0), PLANE0);
	cam_write(CAM(CH_STRIDE1), PLANE1 ? STRIDE : 0);
	cam_write(CAM(CH_LEN1), PLANE1);
	/* A frame is latched when the one before is done, and then the next may be committed without a look at STATUS:
	 * one interrupt a frame is enough for both. */
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_LATCHED));
	commit(0);
	write32(EXIT, 1);
	cam_write(CAM(CTRL), CAM(CTRL_ENABLE));
	for (u32 latched = 0;; latched++) {
		wait_interrupt();
		if (latched) {
			u32 done = latched - 1;

			CHECK(stamp_at(buffer(done))->magic == STAMP_MAGIC);
			CHECK(stamp_at(buffer(done))->sequence == done);
			if (done == WARM_UP)
				first = start_of_done_frame();
			if (done == WARM_UP + MEASURED) {
				print_number(start_of_done_frame() - first);
				return 0;
			}
		}
		cam_write(CAM(IRQ_STATUS), CAM(IRQ_LATCHED) | CAM(IRQ_FRAME_DONE));
		commit(latched + 1);
	}
}
