/* SPDX-License-Identifier: Apache-2.0 */
/* Prints without end. */
#include "guest.h"

static int __attribute__((noreturn)) guest(void)
{
	write32(EXIT, 1);
	for (;;)
		print("chatter\n");
}
