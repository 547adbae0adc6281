/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts for bare-metal guests: one shared interrupt of the GIC (Arm IHI 0069). The guest polls and clears its pending state
 * in the distributor. The interrupt is not enabled, so it is never delivered to the CPU. */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

#include "guest.h"

#define GICD_ISPENDR 0x200
#define GICD_ICPENDR 0x280
#define GICD_ICFGR 0xc00
#define FIRST_SPI 32

/* The number of interrupts so far. */
static u32 interrupts;
static u64 set_pending, clear_pending;
static u32 pending_bit;

/* An edge stays pending until it is cleared. A level is pending while the line is high. */
static void interrupts_on(u32 line)
{
	u32 number = FIRST_SPI + line;
	u64 configuration = GIC_DISTRIBUTOR + GICD_ICFGR + number / 16 * 4;

	write32(configuration, read32(configuration) | 2U << number % 16 * 2);
	set_pending = GIC_DISTRIBUTOR + GICD_ISPENDR + number / 32 * 4;
	clear_pending = GIC_DISTRIBUTOR + GICD_ICPENDR + number / 32 * 4;
	pending_bit = 1U << number % 32;
	write32(clear_pending, pending_bit);
}

/* Whether an interrupt has come since this last returned true. Simultaneous interrupts count as one. */
static int interrupt_came(void)
{
	if (!(read32(set_pending) & pending_bit))
		return 0;
	write32(clear_pending, pending_bit);
	interrupts++;
	return 1;
}

static inline void wait_interrupt(void)
{
	while (!interrupt_came())
		;
}

#endif
