/* SPDX-License-Identifier: Apache-2.0 */
/* Prints a line, and makes no boot mark. */
#include "guest.h"

static int __attribute__((noreturn)) guest(void)
{
	print("stuck\n");
	for (;;)
		;
}
