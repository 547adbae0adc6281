/* SPDX-License-Identifier: Apache-2.0 */
/* x86_64 for bare-metal guests: the entry in 64-bit mode, exits and device accesses. No SSE. */
#ifndef ARCH_H
#define ARCH_H

/* The offset of addresses at which devices accept accesses of any alignment. */
#define UNALIGNED(address) (address)

/* The VMM has set up a stack, and maps all memory. */
void __attribute__((section(".text.start"), noreturn)) _start(void)
{
	start();
}

/* Halts with interrupts off. */
static inline void halt(void)
{
	asm volatile("cli; hlt");
}

/* A triple fault: an exception without an IDT. */
static inline void reset(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} none = { 0, 0 };

	asm volatile("lidt %0; ud2" : : "m"(none));
}

#endif
