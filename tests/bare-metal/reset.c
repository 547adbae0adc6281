/* SPDX-License-Identifier: Apache-2.0 */
/* Resets itself. */
#include "guest.h"

static int guest(void)
{
	reset();
	return 1;
}
