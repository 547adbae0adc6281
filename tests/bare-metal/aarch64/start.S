/* SPDX-License-Identifier: Apache-2.0 */
/* The header of an arm64 boot image (Documentation/arm64/booting.rst), and the entry after it.
 *
 * A guest starts at EL1 without MMU. Its memory accesses then bypass the caches, which the VMM's accesses use, and
 * must be aligned. So it enables the MMU before it accesses any memory except its table: 512 blocks of 1 GiB, each
 * mapped to itself, RAM as normal memory and everything else as device memory. The upper 256 blocks map the lower ones again, as
 * uncached normal memory. No cache has lines of the table's memory yet, and the MMU reads it without the caches,
 * too. */
#include "parameters.h"

#define MAIR_DEVICE 0x04	/* index 0: Device-nGnRE */
#define MAIR_NORMAL 0xff	/* index 1: write-back */
#define MAIR_NOT_CACHED 0x44	/* index 2 */
/* A valid block with the access flag, inner shareable. Only RAM is executable. */
#define BLOCK(index) (0x701 | (index) << 2)
#define NO_EXECUTE (3 << 53)
/* Addresses of 39 bits (T0SZ 25), of 40 behind the table (IPS 2), inner shareable, granule of 4 KiB, no TTBR1. */
#define TCR (25 | 3 << 12 | 1 << 23 | 2 << 32)

	.section .header, "ax"
	b	start_of_code
	.long	0
	.quad	0			/* text_offset: from a multiple of 2 MiB */
	.quad	image_end
	.quad	0xa			/* little-endian, pages of 4 KiB, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

	.text
start_of_code:
	adrp	x0, table
	adr	x1, RAM
	ldr	x2, [x1]
	adr	x1, RAM_END
	ldr	x3, [x1]
	mov	x4, #0			/* address of the block */
	ldr	x5, =BLOCK(0) | NO_EXECUTE
	ldr	x6, =BLOCK(1)
	ldr	x7, =BLOCK(2) | NO_EXECUTE
	mov	x11, #1 << 30
	add	x9, x0, #256 * 8
1:	add	x8, x4, x11
	/* Normal memory, if the block begins before RAM ends and ends after RAM begins. */
	cmp	x4, x3
	ccmp	x8, x2, #0, lo
	csel	x10, x6, x5, hi
	orr	x10, x10, x4
	str	x10, [x0], #8
	orr	x10, x7, x4
	str	x10, [x0, #256 * 8 - 8]
	mov	x4, x8
	cmp	x0, x9
	b.ne	1b

	adrp	x0, table
	ldr	x1, =MAIR_DEVICE | MAIR_NORMAL << 8 | MAIR_NOT_CACHED << 16
	ldr	x2, =TCR
	msr	mair_el1, x1
	msr	tcr_el1, x2
	msr	ttbr0_el1, x0
	dsb	sy
	isb
	tlbi	vmalle1
	ic	iallu
	dsb	nsh
	isb
	mrs	x0, sctlr_el1
	mov	x1, #1 << 0 | 1 << 2	/* MMU, data cache */
	orr	x1, x1, #1 << 12	/* instruction cache */
	orr	x0, x0, x1
	bic	x0, x0, #1 << 1		/* no checks of alignment but the memory's own */
	msr	sctlr_el1, x0
	isb
	adrp	x0, stack_top
	mov	sp, x0
	b	start
