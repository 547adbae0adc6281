/* SPDX-License-Identifier: Apache-2.0 */
/* Boot: the zero page is valid, the serial port prints, the exit status is reported. */
#include "guest.h"

static int guest(void)
{
	write32(EXIT, 1);
	print("hello\n");
	return 42;
}
