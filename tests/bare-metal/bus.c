/* SPDX-License-Identifier: Apache-2.0 */
/* Bus: addresses without a device read as ones and ignore writes. Accesses of every width and offset to every device do no harm. */
#include "guest.h"

static int guest(void)
{
	u64 nothing = SERIAL + 0x100000;

	CHECK(read32(nothing) == 0xffffffff);
	write32(nothing, 0x12345678);
	CHECK(read32(nothing) == 0xffffffff);
	for (u64 page = SERIAL; page < SERIAL + 0x8000; page += 0x1000) {
		for (u32 offset = 0; offset < 16; offset++) {
			(void)DEVICE(u8, UNALIGNED(page + offset));
			(void)DEVICE(u16, UNALIGNED(page + offset));
			(void)DEVICE(u64, UNALIGNED(page + offset));
		}
	}
	CHECK(read32(EXIT) == 0);
	/* Only a write of the whole word ends the machine. */
	write8(EXIT + 5, 1);
	DEVICE(u16, EXIT + 4) = 0x107;
	return 0;
}
