/* SPDX-License-Identifier: Apache-2.0 */
/* Sets up a virtio device with a queue of an impossible size and resets it, without end: each round is a warning of the machine. */
#include "guest.h"

/* Registers of virtio-mmio (linux/virtio_mmio.h). */
#define MAGIC_VALUE 0x000
#define DRIVER_FEATURES 0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL 0x030
#define QUEUE_NUM 0x038
#define STATUS 0x070

static int __attribute__((noreturn)) guest(void)
{
	u64 device = SERIAL;

	write32(EXIT, 1);
	while (read32(device + MAGIC_VALUE) != 0x74726976)
		device += 0x1000;
	for (;;) {
		write32(device + STATUS, 0);
		write32(device + STATUS, 1);
		write32(device + STATUS, 3);
		write32(device + DRIVER_FEATURES_SEL, 1);
		write32(device + DRIVER_FEATURES, 1);
		write32(device + STATUS, 11);
		write32(device + QUEUE_SEL, 0);
		write32(device + QUEUE_NUM, 3);
	}
}
