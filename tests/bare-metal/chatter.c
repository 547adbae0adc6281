/* SPDX-License-Identifier: Apache-2.0 */
/* Prints and prints. */
#include "guest.h"

static int __attribute__((noreturn)) guest(void)
{
	write32(EXIT, 1);
	for (;;)
		print("chatter\n");
}
