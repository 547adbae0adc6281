/* SPDX-License-Identifier: Apache-2.0 */
/* Disk: a driver of a virtio-blk device with two queues, which polls. It uses BLOCKS blocks of 4 KiB, which lie apart.
 *
 * It checks what an earlier run left, of which the host knows the EPOCH (as PREVIOUS) and the number of writes whose flush was ACKED.
 * Then it writes and flushes until it is killed, and prints the number of writes after each flush. */
#include "guest.h"

#define BLOCK 4096UL
#define SECTOR 512UL
#define WORDS (SECTOR / 8)
#define SECTORS (BLOCK / SECTOR)
/* From one block to the next, in sectors: more than a cluster of an image. */
#define SPACING 136UL
/* The requests that are under way at a time. */
#define BATCH 16UL

#define QUEUES 2UL
#define SIZE 64UL
/* The rings of a queue: descriptors, available, used; the headers and statuses of its requests. */
#define MEMORY (RAM_END - (24UL << 20))
#define RINGS(queue) (MEMORY + (queue) * 0x10000)
#define AVAILABLE 0x1000
#define USED 0x2000
#define HEADERS 0x4000
#define STATUSES 0x5000
/* The newest write of each block that is known to be stored. */
#define STORED ((u32 *)(MEMORY + 0x100000))
#define DATA(slot) ((u64 *)(MEMORY + (8UL << 20) + (slot) * BLOCK))

/* Registers of virtio-mmio (virtio 1.2, section 4.2.2). */
#define MAGIC 0x000
#define DEVICE_ID 0x008
#define DRIVER_FEATURES 0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL 0x030
#define QUEUE_NUM 0x038
#define QUEUE_READY 0x044
#define QUEUE_NOTIFY 0x050
#define STATUS 0x070
#define QUEUE_DESC 0x080
#define QUEUE_AVAILABLE 0x090
#define QUEUE_USED 0x0a0
#define CAPACITY 0x100

#define READ 0
#define WRITE 1
#define FLUSH 4

#define NEXT 1
#define WRITABLE 2

struct descriptor {
	u64 address;
	u32 length;
	u16 flags, next;
};

struct available {
	u16 flags, index, ring[SIZE];
};

struct header {
	u32 type, reserved;
	u64 sector;
};

static inline void barrier(void)
{
	__sync_synchronize();
}

static void print_number(u64 number)
{
	char text[24], *digit = text + sizeof(text);

	*--digit = 0;
	*--digit = '\n';
	do
		*--digit = '0' + number % 10;
	while (number /= 10);
	print(digit);
}

static void set_up(void)
{
	CHECK(read32(DISK + MAGIC) == 0x74726976 && read32(DISK + DEVICE_ID) == 2);
	CHECK(read32(DISK + CAPACITY) == BLOCKS * SPACING);
	write32(DISK + STATUS, 0);
	write32(DISK + STATUS, 3);
	/* VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ; VIRTIO_F_VERSION_1. */
	write32(DISK + DRIVER_FEATURES_SEL, 0);
	write32(DISK + DRIVER_FEATURES, 1 << 9 | 1 << 12);
	write32(DISK + DRIVER_FEATURES_SEL, 1);
	write32(DISK + DRIVER_FEATURES, 1);
	write32(DISK + STATUS, 11);
	for (u64 queue = 0; queue < QUEUES; queue++) {
		u64 rings = RINGS(queue);

		/* VRING_AVAIL_F_NO_INTERRUPT */
		((volatile struct available *)(rings + AVAILABLE))->flags = 1;
		write32(DISK + QUEUE_SEL, queue);
		write32(DISK + QUEUE_NUM, SIZE);
		write32(DISK + QUEUE_DESC, rings);
		write32(DISK + QUEUE_DESC + 4, rings >> 32);
		write32(DISK + QUEUE_AVAILABLE, rings + AVAILABLE);
		write32(DISK + QUEUE_AVAILABLE + 4, (rings + AVAILABLE) >> 32);
		write32(DISK + QUEUE_USED, rings + USED);
		write32(DISK + QUEUE_USED + 4, (rings + USED) >> 32);
		write32(DISK + QUEUE_READY, 1);
	}
	write32(DISK + STATUS, 15);
}

/* Makes a request available. Requests of even slots are in the first queue, the others in the second. */
static void submit(u64 slot, u32 type, u64 sector, u32 bytes)
{
	u64 rings = RINGS(slot % QUEUES), place = slot / QUEUES;
	volatile struct descriptor *part = (volatile struct descriptor *)rings + 3 * place;
	volatile struct header *header = (volatile struct header *)(rings + HEADERS) + place;
	volatile u8 *status = (volatile u8 *)(rings + STATUSES) + place;
	volatile struct available *available = (volatile struct available *)(rings + AVAILABLE);
	u16 first = 3 * place;

	header->type = type;
	header->reserved = 0;
	header->sector = sector;
	*status = 0xff;
	part[0].address = (u64)header;
	part[0].length = sizeof(*header);
	part[0].flags = NEXT;
	part[0].next = bytes ? first + 1 : first + 2;
	part[1].address = (u64)DATA(slot);
	part[1].length = bytes;
	part[1].flags = NEXT | (type == READ ? WRITABLE : 0);
	part[1].next = first + 2;
	part[2].address = (u64)status;
	part[2].length = 1;
	part[2].flags = WRITABLE;
	part[2].next = 0;
	available->ring[available->index % SIZE] = first;
	barrier();
	available->index++;
	barrier();
}

/* Waits for the answers to all requests, which are in the first `count` slots. */
static void finish(u64 count)
{
	for (u64 queue = 0; queue < QUEUES; queue++)
		write32(DISK + QUEUE_NOTIFY, queue);
	for (u64 queue = 0; queue < QUEUES; queue++) {
		volatile u16 *used = (volatile u16 *)(RINGS(queue) + USED + 2);
		volatile struct available *available = (volatile struct available *)(RINGS(queue) + AVAILABLE);

		while (*used != available->index)
			barrier();
	}
	barrier();
	for (u64 slot = 0; slot < count; slot++)
		CHECK(((volatile u8 *)(RINGS(slot % QUEUES) + STATUSES))[slot / QUEUES] == 0);
}

static void flush(void)
{
	submit(0, FLUSH, 0, 0);
	finish(1);
}

/* A number that looks random (splitmix64). */
static u64 mix(u64 value)
{
	value += 0x9e3779b97f4a7c15UL;
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9UL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebUL;
	return value ^ value >> 31;
}

/* A sector begins with the number of the write, its own, and a hash of both, and ends with another. There is no more, because a KVM
 * without hardware virtualization interprets the guest. */
static void fill(u64 *words, u64 sector, u64 write)
{
	u64 hash = mix(sector ^ mix(write));

	words[0] = write;
	words[1] = sector;
	words[2] = hash;
	words[WORDS - 1] = ~hash;
}

static void check(const u64 *words, u64 sector)
{
	u64 hash = mix(sector ^ mix(words[0]));

	CHECK(words[1] == sector && words[2] == hash && words[WORDS - 1] == ~hash);
}

/* The block of the write with this number in an epoch: first each block once, then groups of BATCH different ones. */
static u64 block_of(u64 epoch, u64 number)
{
	u64 group = number / BATCH, place = number % BATCH;

	if (number < BLOCKS)
		return number;
	return (mix(epoch ^ mix(group)) + place * (BLOCKS / BATCH)) % BLOCKS;
}

/* Nothing whose flush was acknowledged is lost. Writes after it may be there or not. */
static void check_earlier(void)
{
	for (u64 number = 0; number < ACKED; number++)
		STORED[block_of(PREVIOUS, number)] = number;
	for (u64 block = 0; block < BLOCKS; block += BATCH) {
		for (u64 slot = 0; slot < BATCH; slot++)
			submit(slot, READ, (block + slot) * SPACING, BLOCK);
		finish(BATCH);
		for (u64 slot = 0; slot < BATCH; slot++) {
			for (u64 sector = 0; sector < SECTORS; sector++) {
				const u64 *words = DATA(slot) + sector * WORDS;
				u64 number = words[0] - PREVIOUS;

				check(words, (block + slot) * SPACING + sector);
				CHECK(number >= STORED[block + slot]);
				CHECK(number < ACKED + 2 * BATCH);
				CHECK(block_of(PREVIOUS, number) == block + slot);
			}
		}
	}
}

static int guest(void)
{
	u64 number = 0;

	set_up();
	if (ACKED)
		check_earlier();
	print("checked\n");
	do {
		for (u64 slot = 0; slot < BATCH; slot++) {
			u64 first = block_of(EPOCH, number + slot) * SPACING;

			for (u64 sector = 0; sector < SECTORS; sector++)
				fill(DATA(slot) + sector * WORDS, first + sector, EPOCH + number + slot);
			submit(slot, WRITE, first, BLOCK);
		}
		finish(BATCH);
		number += BATCH;
		/* Each block is written once before the first flush. */
		if (number >= BLOCKS) {
			flush();
			print_number(number);
		}
	} while (number);
	return 0;
}
