/* SPDX-License-Identifier: Apache-2.0 */
/* What every bare-metal guest starts with: entry, device access, printing, the end. Ring 0, 64 bit, no libc, no SSE.
 * SERIAL, EXIT, CAMERA (addresses), CAMERA_IRQ, WINDOW and WINDOW_SIZE (of the CMA window) come from the compiler's command line. */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

static int guest(void);

static inline void write8(u64 address, u8 value) { *(volatile u8 *)address = value; }
static inline u32 read32(u64 address) { return *(volatile u32 *)address; }
static inline void write32(u64 address, u32 value) { *(volatile u32 *)address = value; }
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
			print("line " LINE(__LINE__) ": " #condition "\n"); \
			end(1);                                       \
		}                                                     \
	} while (0)
#define LINE(line) LINE_TEXT(line)
#define LINE_TEXT(line) #line

void __attribute__((section(".text.start"), noreturn)) _start(void)
{
	end(guest());
}

#endif
