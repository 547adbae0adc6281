/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the programs for the ISP's metadata nodes: a node with its mapped buffers. */
#ifndef METADATA_H
#define METADATA_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "minivmm-camera-meta.h"

#define BUFFERS 4

/* The time limit of a frame. */
#define LIMIT_MS 30000

struct node {
	int fd;
	enum v4l2_buf_type type;
	void *memory[BUFFERS];
};

static inline void fail(const char *what)
{
	perror(what);
	exit(2);
}

static inline void request(const struct node *node, unsigned long number, void *argument, const char *what)
{
	if (ioctl(node->fd, number, argument) < 0)
		fail(what);
}

static inline void open_node(struct node *node, const char *path, enum v4l2_buf_type type)
{
	struct v4l2_requestbuffers buffers = { .count = BUFFERS, .type = type, .memory = V4L2_MEMORY_MMAP };
	unsigned int i;

	node->type = type;
	node->fd = open(path, O_RDWR | O_NONBLOCK);
	if (node->fd < 0)
		fail(path);
	request(node, VIDIOC_REQBUFS, &buffers, "VIDIOC_REQBUFS");
	if (buffers.count != BUFFERS) {
		fprintf(stderr, "%s has %u buffers instead of %u\n", path, buffers.count, BUFFERS);
		exit(2);
	}
	for (i = 0; i < BUFFERS; i++) {
		struct v4l2_buffer buffer = { .index = i, .type = type, .memory = V4L2_MEMORY_MMAP };

		request(node, VIDIOC_QUERYBUF, &buffer, "VIDIOC_QUERYBUF");
		node->memory[i] = mmap(NULL, buffer.length, PROT_READ | PROT_WRITE, MAP_SHARED, node->fd,
				       buffer.m.offset);
		if (node->memory[i] == MAP_FAILED)
			fail("mmap");
	}
}

/* Queues a buffer. @bytes is the size of an output buffer. Returns -1 and sets errno if it is refused. */
static inline int queue(const struct node *node, unsigned int index, unsigned int bytes)
{
	struct v4l2_buffer buffer = {
		.index = index, .type = node->type, .memory = V4L2_MEMORY_MMAP, .bytesused = bytes,
	};

	return ioctl(node->fd, VIDIOC_QBUF, &buffer);
}

/* The next done buffer, or 0. */
static inline int dequeue(const struct node *node, struct v4l2_buffer *buffer)
{
	*buffer = (struct v4l2_buffer){ .type = node->type, .memory = V4L2_MEMORY_MMAP };
	if (!ioctl(node->fd, VIDIOC_DQBUF, buffer))
		return 1;
	if (errno != EAGAIN)
		fail("VIDIOC_DQBUF");
	return 0;
}

/* Waits for a done buffer. */
static inline void wait_for(const struct node *node, struct v4l2_buffer *buffer)
{
	struct pollfd pollfd = { .fd = node->fd, .events = POLLIN | POLLOUT };

	while (!dequeue(node, buffer)) {
		if (poll(&pollfd, 1, LIMIT_MS) <= 0) {
			fprintf(stderr, "no buffer is done\n");
			exit(2);
		}
	}
}

#endif
