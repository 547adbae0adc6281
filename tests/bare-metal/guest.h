/* SPDX-License-Identifier: Apache-2.0 */
/* The common part of bare-metal guests: parameters, device access, printing, the exit. 64-bit, without libc and
 * floating point. Each architecture has a folder with its own part. */
#ifndef GUEST_H
#define GUEST_H

#include "parameters.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define TEXT(word) TEXT_OF(word)
#define TEXT_OF(word) #word

/* SERIAL, EXIT and so on are words of this array. The test writes them into the guest's file. The compiler knows that they
 * are constant, but not their values. */
extern const u64 parameters[PARAMETERS];
asm(".section .rodata\n"
    ".balign 8\n"
    ".ascii \"" PARAMETERS_MAGIC "\"\n"
    ".globl parameters\n"
    "parameters: .skip 8 * " TEXT(PARAMETERS) "\n"
    ".text\n");

static int guest(void);

/* A device's register. The compiler does not see its address. Otherwise it could use an instruction that also increments the
 * address, which KVM on aarch64 does not decode for the VMM. */
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

/* Ends with the number of the line of the failed check: the status is its low byte, and the text has the whole number. */
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
