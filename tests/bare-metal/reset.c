/* SPDX-License-Identifier: Apache-2.0 */
/* Falls into a triple fault: a breakpoint without an IDT. */
#include "guest.h"

static int guest(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} none = { 0, 0 };

	asm volatile("lidt %0; ud2" : : "m"(none));
	return 1;
}
