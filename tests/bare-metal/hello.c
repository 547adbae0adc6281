/* SPDX-License-Identifier: Apache-2.0 */
/* Boot: the zero page is there, the serial port prints, the status comes back. */
#include "guest.h"

static int guest(void)
{
	write32(EXIT, 1);
	print("hello\n");
	return 42;
}
