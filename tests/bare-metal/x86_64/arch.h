/* SPDX-License-Identifier: Apache-2.0 */
/* x86_64 for bare-metal guests: the entry in 64-bit mode, the ways to end, what accesses it knows. No SSE. */
#ifndef ARCH_H
#define ARCH_H

/* Where devices answer accesses of any alignment. */
#define UNALIGNED(address) (address)

/* The VMM has set up a stack, and maps all memory. */
void __attribute__((section(".text.start"), noreturn)) _start(void)
{
	start();
}

/* Interrupts off, nobody left to wake it. */
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
