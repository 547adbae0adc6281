/* SPDX-License-Identifier: Apache-2.0 */
/* What every bare-metal guest starts with: its parameters, device access, printing, the end. 64 bit, no libc, no
 * floating point; what differs between architectures is in a folder of its own each. */
#ifndef GUEST_H
#define GUEST_H

#include "parameters.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define TEXT(word) TEXT_OF(word)
#define TEXT_OF(word) #word

/* SERIAL, EXIT and so on are words of this; who runs the guest writes them into its file. The compiler knows that they
 * do not change, but not what they are. */
extern const u64 parameters[PARAMETERS];
asm(".section .rodata\n"
    ".balign 8\n"
    ".ascii \"" PARAMETERS_MAGIC "\"\n"
    ".globl parameters\n"
    "parameters: .skip 8 * " TEXT(PARAMETERS) "\n"
    ".text\n");

static int guest(void);

/* A device's register. The compiler does not see where it is: an instruction that counts the address up as well is more
 * than KVM can tell the VMM of on aarch64. */
#define DEVICE(type, address)                     \
	(*({                                      \
		u64 at = (address);               \
		asm volatile("" : "+r"(at));      \
		(volatile type *)at;              \
	}))

static inline void write8(u64 address, u8 value) { DEVICE(u8, address) = value; }
static inline u32 read32(u64 address) { return DEVICE(u32, address); }
static inline void write32(u64 address, u32 value) { DEVICE(u32, address) = value; }
static inline u32 cam_read(u32 reg) { return read32(CAMERA + reg); }
static inline void cam_write(u32 reg, u32 value) { write32(CAMERA + reg, value); }

static inline void print(const char *text)
{
	while (*text)
		write8(SERIAL, *text++);
}

static inline void __attribute__((noreturn)) end(u8 status)
{
	write32(EXIT + 4, 0x100 | status);
	for (;;)
		;
}

/* Ends with the number of the line that did not hold: the status is its low byte, the text says it whole. */
#define CHECK(condition)                                              \
	do {                                                          \
		if (!(condition)) {                                   \
			print("line " TEXT(__LINE__) ": " #condition "\n"); \
			end(1);                                       \
		}                                                     \
	} while (0)

void __attribute__((noreturn)) start(void)
{
	end(guest());
}

#include "arch.h"

#endif
