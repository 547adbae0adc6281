/* SPDX-License-Identifier: Apache-2.0 */
/* Camera registers with stall timing: frames with interrupts, a bus error, late enabling, stop and reset. */
#include "camera.h"

#define BUFFER (WINDOW + 0x10000)
#define SECOND (WINDOW + 0x20000)
/* The memory below the window belongs to the guest, but the camera may not use it. */
#define OUTSIDE (WINDOW - 0x1000)
#define CANARY 0x5aa55aa5c33cc33cUL

static void fill(u64 from, u64 to)
{
	for (u64 address = from; address < to; address += 8)
		*(volatile u64 *)address = CANARY;
}

static int is_filled(u64 from, u64 to)
{
	for (u64 address = from; address < to; address += 8)
		if (*(volatile u64 *)address != CANARY)
			return 0;
	return 1;
}

static void identity(void)
{
	CHECK(cam_read(CAM(ID)) == CAM(ID_VALUE));
	CHECK(cam_read(CAM(VERSION)) == CAM(VERSION_VALUE));
	/* Two channels of three planes, 32 address lines. */
	CHECK(cam_read(CAM(CAPS)) == (CAM(CHANNELS) | 3 << 4 | 32 << 8));
	CHECK(cam_read(CAM(TIMING)) == CAM(TIMING_STALL));
	CHECK(cam_read(CAM(STATUS)) == 0);
	cam_write(CAM(ID), 0);
	CHECK(cam_read(CAM(ID)) == CAM(ID_VALUE));
	/* Registers are accessed as whole words only. */
	write8(CAMERA + CAM(CTRL), CAM(CTRL_ENABLE));
	CHECK(cam_read(CAM(CTRL)) == 0);
}

static void frames_by_interrupt(void)
{
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE));
	cam_commit_grey(BUFFER);
	CHECK(cam_read(CAM(STATUS)) == CAM(STATUS_PENDING));
	cam_write(CAM(CTRL), CAM(CTRL_ENABLE));
	for (u32 sequence = 0; sequence < 4; sequence++) {
		u64 buffer = sequence % 2 ? SECOND : BUFFER;

		if (sequence)
			cam_commit_grey(buffer);
		CHECK(cam_wait(CAM(IRQ_DONE)) == CAM(IRQ_DONE));
		CHECK(stamp_at(buffer)->magic == STAMP_MAGIC);
		CHECK(stamp_at(buffer)->sequence == sequence);
		CHECK(cam_read(CAM(CH_DONE_SEQUENCE)) == sequence);
		CHECK(cam_read(CAM(CH_DONE_ADDR_LO)) == (u32)buffer);
		CHECK(cam_read(CAM(CH_DONE_BYTES)) == GREY_BYTES);
		CHECK(cam_read(CAM(FRAMES)) == sequence + 1);
	}
	CHECK(cam_read(CAM(DROPS)) == 0);
	CHECK(!interrupt_came());
	CHECK(cam_read(CAM(IRQS)) == interrupts);
}

/* A frame that begins below the window, and a frame that ends after it. */
static void bus_errors(void)
{
	u64 behind = WINDOW + WINDOW_SIZE;
	u32 frames = cam_read(CAM(FRAMES));

	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE) | CAM(IRQ_BUS_ERROR));
	fill(OUTSIDE, WINDOW + GREY_BYTES);
	cam_commit_grey(OUTSIDE);
	CHECK(cam_wait(CAM(IRQ_BUS_ERROR)) == CAM(IRQ_BUS_ERROR));
	CHECK(cam_read(CAM(ERR_ADDR_LO)) == (u32)OUTSIDE);
	CHECK(cam_read(CAM(ERR_ADDR_HI)) == 0);
	CHECK(cam_read(CAM(ERR_INFO)) == 0);
	CHECK(is_filled(OUTSIDE, WINDOW + GREY_BYTES));

	fill(behind - 0x4000, behind);
	cam_commit_grey(behind - 0x4000);
	CHECK(cam_wait(CAM(IRQ_BUS_ERROR)) == CAM(IRQ_BUS_ERROR));
	CHECK(cam_read(CAM(ERR_ADDR_LO)) == (u32)behind);
	CHECK(is_filled(behind - 0x4000, behind));

	/* The first of two addresses is kept until the driver acknowledges it. */
	cam_write(CAM(IRQ_ENABLE), 0);
	cam_commit_grey(OUTSIDE - 0x1000);
	while (cam_read(CAM(BUS_ERRORS)) != 3)
		;
	cam_commit_grey(OUTSIDE);
	while (cam_read(CAM(BUS_ERRORS)) != 4)
		;
	CHECK(cam_read(CAM(ERR_ADDR_LO)) == (u32)OUTSIDE - 0x1000);
	cam_write(CAM(IRQ_STATUS), CAM(IRQ_BUS_ERROR));

	/* Beyond the address lines. */
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_BUS_ERROR));
	cam_commit_grey(BUFFER | 1UL << 40);
	CHECK(cam_wait(CAM(IRQ_BUS_ERROR)) == CAM(IRQ_BUS_ERROR));
	CHECK(cam_read(CAM(ERR_ADDR_HI)) == 1 << 8);

	CHECK(cam_read(CAM(DROPS)) == 5);
	CHECK(cam_read(CAM(FRAMES)) == frames);
	CHECK(is_filled(OUTSIDE, WINDOW + GREY_BYTES));
}

/* A recorded event interrupts when it is enabled. A further event signals a second edge. */
static void enabled_late(void)
{
	u32 edges = cam_read(CAM(IRQS));

	cam_write(CAM(IRQ_ENABLE), 0);
	cam_write(CAM(IRQ_STATUS), ~0U);
	cam_commit_grey(BUFFER);
	while (!(cam_read(CAM(IRQ_RAW)) & CAM(IRQ_DONE)))
		;
	CHECK(cam_read(CAM(IRQ_STATUS)) == 0);
	CHECK(cam_read(CAM(IRQS)) == edges);
	CHECK(!interrupt_came());
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE));
	wait_interrupt();
	CHECK(!interrupt_came());
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE) | CAM(IRQ_LATCHED));
	wait_interrupt();
	CHECK(cam_read(CAM(IRQS)) == edges + 2);
	/* No new bit, no edge. */
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE));
	CHECK(cam_read(CAM(IRQS)) == edges + 2);
	CHECK(!interrupt_came());
	cam_write(CAM(IRQ_STATUS), ~0U);
}

static void stop_and_reset(void)
{
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_STOPPED));
	cam_write(CAM(CTRL), 0);
	CHECK(cam_wait(CAM(IRQ_STOPPED)) == CAM(IRQ_STOPPED));
	CHECK(cam_read(CAM(STATUS)) == 0);

	/* A stopped channel keeps a configuration until it is enabled. The sequence then starts at 0. */
	fill(BUFFER, BUFFER + GREY_BYTES);
	cam_commit_grey(BUFFER);
	CHECK(cam_read(CAM(STATUS)) == CAM(STATUS_PENDING));
	CHECK(is_filled(BUFFER, BUFFER + GREY_BYTES));
	cam_write(CAM(IRQ_ENABLE), CAM(IRQ_DONE));
	cam_write(CAM(CTRL), CAM(CTRL_ENABLE));
	cam_wait(CAM(IRQ_DONE));
	CHECK(stamp_at(BUFFER)->sequence == 0);

	cam_commit_grey(SECOND);
	cam_write(CAM(CTRL), CAM(CTRL_RESET));
	while (cam_read(CAM(STATUS)))
		;
	CHECK(cam_read(CAM(CTRL)) == 0);
	CHECK(cam_read(CAM(IRQ_RAW)) == 0);
	CHECK(cam_read(CAM(IRQ_ENABLE)) == 0);
	CHECK(cam_read(CAM(FRAMES)) == 0);
	CHECK(cam_read(CAM(CH_FORMAT)) == 0);
}

static int guest(void)
{
	interrupts_on(CAMERA_IRQ);
	identity();
	frames_by_interrupt();
	bus_errors();
	enabled_late();
	stop_and_reset();
	return 0;
}
