/* SPDX-License-Identifier: Apache-2.0 */
/* Stream: the camera writes frames as fast as possible. Prints the time of MEASURED frames in nanoseconds, and the number of
 * dropped frames among them. FORMAT has one plane with 2 bytes a pixel, or is NV12 with 2 PLANES. WARM_UP and MEASURED count
 * received frames. */
#include "camera.h"

#define PAGE_UP(bytes) (((bytes) + 0xfff) & ~0xfffUL)

/* A ring of buffers. */
struct ring {
	u64 first, end, size;
};

static u64 after(const struct ring *ring, u64 buffer)
{
	buffer += ring->size;
	return buffer == ring->end ? ring->first : buffer;
}

/* Writes only the registers that change. Windows are below 4 GiB. */
static void commit(u64 buffer, u64 plane1)
{
	cam_write(CAM(CH_ADDR0_LO), buffer);
	if (plane1)
		cam_write(CAM(CH_ADDR1_LO), buffer + plane1);
	cam_write(CAM(CH_COMMIT), 1);
}

static u64 start_of_done_frame(void)
{
	return (u64)cam_read(CAM(CH_DONE_TIME_HI)) << 32 | cam_read(CAM(CH_DONE_TIME_LO));
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
	u64 pixels = WIDTH * HEIGHT, two = PLANES == 2;
	u64 plane0 = two ? pixels : 2 * pixels, bytes1 = two ? pixels / 2 : 0, stride = plane0 / HEIGHT;
	/* Offset of plane 1 in a buffer. */
	u64 plane1 = two ? plane0 : 0;
	u64 size = PAGE_UP(plane0 + bytes1);
	struct ring ring = { WINDOW, WINDOW + BUFFERS * size, size };
	u64 done = ring.first, next = after(&ring, done), first = 0;
	u32 warm_up = WARM_UP, last = warm_up + MEASURED, expected = 0, drops = 0;

	interrupts_on(CAMERA_IRQ);
	cam_write(CAM(CH_FORMAT), FORMAT);
	cam_write(CAM(CH_SIZE), HEIGHT << 16 | WIDTH);
	cam_write(CAM(CH_STRIDE0), stride);
	cam_write(CAM(CH_LEN0), plane0);
	cam_write(CAM(CH_STRIDE1), two ? stride : 0);
	cam_write(CAM(CH_LEN1), bytes1);
	/* A frame is latched when the previous one is done. Then the next can be committed without reading STATUS, so
	 * one interrupt for each frame is enough. */
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_LATCHED));
	commit(ring.first, plane1);
	write32(EXIT, 1);
	cam_write(CAM(CTRL), CAM(CTRL_ENABLE));
	for (u32 latched = 0;; latched++) {
		wait_interrupt();
		if (latched) {
			u32 frame = latched - 1, sequence = stamp_at(done)->sequence;

			CHECK(stamp_at(done)->magic == STAMP_MAGIC);
			CHECK(sequence >= expected);
			if (frame == warm_up)
				first = start_of_done_frame();
			else if (frame > warm_up)
				drops += sequence - expected;
			expected = sequence + 1;
			if (frame == last) {
				print_number(start_of_done_frame() - first);
				print_number(drops);
				return 0;
			}
			done = after(&ring, done);
		}
		cam_write(CAM(IRQ_STATUS), CAM(IRQ_LATCHED) | CAM(IRQ_DONE));
		commit(next, plane1);
		next = after(&ring, next);
	}
}
