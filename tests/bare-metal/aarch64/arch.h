/* SPDX-License-Identifier: Apache-2.0 */
/* aarch64 for bare-metal guests: exits and device accesses. The entry is in start.S. */
#ifndef ARCH_H
#define ARCH_H

/* The offset of a second mapping as normal memory, made by start.S. There devices accept accesses of any alignment. */
#define UNALIGNED(address) ((address) + (1UL << 38))

/* Power State Coordination Interface, Arm DEN 0022: functions of 32 bits. */
#define PSCI_CPU_OFF 0x84000002UL
#define PSCI_SYSTEM_RESET 0x84000009UL

static inline void psci(u64 function)
{
	register u64 x0 asm("x0") = function;

	/* By SMCCC the call may change x0 to x17. */
	asm volatile("hvc #0" : "+r"(x0) : : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
		     "x13", "x14", "x15", "x16", "x17", "memory");
}

/* Switches the last CPU off. */
static inline void halt(void)
{
	psci(PSCI_CPU_OFF);
}

static inline void reset(void)
{
	psci(PSCI_SYSTEM_RESET);
}

#endif
