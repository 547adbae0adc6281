/* SPDX-License-Identifier: Apache-2.0 */
/* For a debugger: prints the addresses of a function and of two variables, waits until the debugger sets `go`, counts to 15 in the
 * function, waits until `go` is 2, and exits with the count. */
#include "guest.h"

volatile u64 counter, go;

void __attribute__((noinline)) count(u64 by)
{
	counter += by;
}

static void print_address(const volatile void *address)
{
	char text[18];
	int at = 16;
	u64 rest = (u64)address;

	text[16] = '\n';
	text[17] = 0;
	while (at--) {
		text[at] = "0123456789abcdef"[rest & 15];
		rest >>= 4;
	}
	print(text);
}

static int guest(void)
{
	write32(EXIT, 1);
	print_address(count);
	print_address(&counter);
	print_address(&go);
	while (go < 1)
		;
	for (u64 by = 1; by <= 5; by++)
		count(by);
	while (go < 2)
		;
	return counter;
}
