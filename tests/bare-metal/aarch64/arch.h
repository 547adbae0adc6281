/* SPDX-License-Identifier: Apache-2.0 */
/* aarch64 for bare-metal guests: the ways to end, what accesses it knows. The entry is start.S. */
#ifndef ARCH_H
#define ARCH_H

/* Where devices answer accesses of any alignment: start.S maps all memory there once more, as normal memory. */
#define UNALIGNED(address) ((address) + (1UL << 38))

/* Power State Coordination Interface, Arm DEN 0022: functions of 32 bits. */
#define PSCI_CPU_OFF 0x84000002UL
#define PSCI_SYSTEM_RESET 0x84000009UL

static inline void psci(u64 function)
{
	register u64 x0 asm("x0") = function;

	/* SMCCC lets it change x0 to x17. */
	asm volatile("hvc #0" : "+r"(x0) : : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
		     "x13", "x14", "x15", "x16", "x17", "memory");
}

/* The last CPU goes. */
static inline void halt(void)
{
	psci(PSCI_CPU_OFF);
}

static inline void reset(void)
{
	psci(PSCI_SYSTEM_RESET);
}

#endif
