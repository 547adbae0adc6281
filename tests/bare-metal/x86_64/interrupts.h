/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts for bare-metal guests: one input of the I/O APIC. The guest polls the requests in the local APIC.
 *
 * They are not delivered: a KVM without hardware virtualization interprets ring 0 and cannot deliver them. Only delivery
 * clears a request, so each interrupt gets a vector of its own. 224 vectors are enough for a guest. */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

#include "guest.h"

#define IOAPIC 0xfec00000UL
#define LAPIC 0xfee00000UL
#define LAPIC_SPURIOUS 0xf0
#define LAPIC_IRR 0x200
#define FIRST_VECTOR 0x20

/* The number of interrupts so far. */
static u32 interrupts;
static u32 ioapic_pin;

static u32 current_vector(void)
{
	CHECK(interrupts < 0x100 - FIRST_VECTOR);
	return FIRST_VECTOR + interrupts;
}

/* Routes the I/O APIC's input to the boot CPU with the vector of the next interrupt, edge-triggered. */
static void route(void)
{
	write32(IOAPIC, 0x10 + 2 * ioapic_pin);
	write32(IOAPIC + 0x10, current_vector());
}

static void interrupts_on(u32 pin)
{
	ioapic_pin = pin;
	write32(LAPIC + LAPIC_SPURIOUS, 0x1ff);
	write32(IOAPIC, 0x10 + 2 * pin + 1);
	write32(IOAPIC + 0x10, 0);
	route();
}

/* Whether an interrupt has come since this last returned true. Simultaneous interrupts count as one. */
static int interrupt_came(void)
{
	u32 vector = current_vector();

	if (!(read32(LAPIC + LAPIC_IRR + 0x10 * (vector / 32)) & 1U << vector % 32))
		return 0;
	interrupts++;
	route();
	return 1;
}

static inline void wait_interrupt(void)
{
	while (!interrupt_came())
		;
}

#endif
