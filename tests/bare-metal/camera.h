/* SPDX-License-Identifier: Apache-2.0 */
/* The camera for bare-metal guests: the configuration of a frame, and waiting for events. */
#ifndef CAMERA_H
#define CAMERA_H

#include "interrupts.h"
#include "minivmm-camera-regs.h"

#define CAM(reg) MINIVMM_CAM_##reg
#define FOURCC(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

/* The first fields of the stamp of a frame: "MCVMSEQ" and the sequence number. */
struct stamp {
	u64 magic;
	u32 sequence;
};

#define STAMP_MAGIC 0x005145534d56434dUL

static inline volatile struct stamp *stamp_at(u64 address) { return (volatile struct stamp *)address; }

static inline void cam_address(u32 reg, u64 address)
{
	cam_write(reg, address);
	cam_write(reg + 4, address >> 32);
}

/* Commits a frame of the smallest size, in 8-bit grey. */
#define GREY_BYTES (160 * 120)
static inline void cam_commit_grey(u64 address)
{
	cam_write(CAM(CH_FORMAT), FOURCC('G', 'R', 'E', 'Y'));
	cam_write(CAM(CH_SIZE), CAM(SIZE_MIN_VALUE));
	cam_write(CAM(CH_STRIDE0), 160);
	cam_write(CAM(CH_LEN0), GREY_BYTES);
	cam_address(CAM(CH_ADDR0_LO), address);
	cam_write(CAM(CH_COMMIT), 1);
}

/* Waits for interrupts until one of `events` has occurred. Acknowledges all events, and returns them. */
static inline u32 cam_wait(u32 events)
{
	u32 happened = 0;

	while (!(happened & events)) {
		u32 status;

		wait_interrupt();
		status = cam_read(CAM(IRQ_STATUS));
		cam_write(CAM(IRQ_STATUS), status);
		happened |= status;
	}
	return happened;
}

#endif
