/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: does with the buffers of the driver rkisp1 what v4l2-ctl does not.
 *   rkisp1-buffers stop NODE HEAP SECONDS
 *     streams NODE for a frame, frees its buffers, takes 32 MiB of the dma-buf heap HEAP, which gives out the lowest free memory and so
 *     that of the buffers, and prints how many bytes of it others have written after SECONDS
 *   rkisp1-buffers statistics NODE GROUPS
 *     twice: queues GROUPS times 8 buffers of statistics, starts, stops, and frees them
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-heap.h>
#include <linux/videodev2.h>

#define BUFFERS 4
#define GROUP 8
#define PIECE (1 << 17)
#define PIECES 256

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR);

	if (fd < 0)
		fail(path);
	return fd;
}

static void request(int fd, unsigned long number, void *argument, const char *what)
{
	if (ioctl(fd, number, argument) < 0)
		fail(what);
}

static void free_buffers(int node, enum v4l2_buf_type type)
{
	struct v4l2_requestbuffers none = { .type = type, .memory = V4L2_MEMORY_MMAP };

	request(node, VIDIOC_REQBUFS, &none, "VIDIOC_REQBUFS of none");
}

static void queue(int node, enum v4l2_buf_type type, unsigned int index)
{
	struct v4l2_plane plane = {};
	struct v4l2_buffer buffer = { .index = index, .type = type, .memory = V4L2_MEMORY_MMAP };

	if (type == V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE) {
		buffer.m.planes = &plane;
		buffer.length = 1;
	}
	request(node, VIDIOC_QBUF, &buffer, "VIDIOC_QBUF");
}

static void stream_a_frame(int node)
{
	enum v4l2_buf_type type = V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
	struct v4l2_requestbuffers buffers = { .count = BUFFERS, .type = type, .memory = V4L2_MEMORY_MMAP };
	struct v4l2_plane plane = {};
	struct v4l2_buffer done = { .type = type, .memory = V4L2_MEMORY_MMAP, .m.planes = &plane, .length = 1 };
	unsigned int i;

	request(node, VIDIOC_REQBUFS, &buffers, "VIDIOC_REQBUFS");
	for (i = 0; i < buffers.count; i++)
		queue(node, type, i);
	request(node, VIDIOC_STREAMON, &type, "VIDIOC_STREAMON");
	request(node, VIDIOC_DQBUF, &done, "VIDIOC_DQBUF");
	queue(node, type, done.index);
	request(node, VIDIOC_STREAMOFF, &type, "VIDIOC_STREAMOFF");
	free_buffers(node, type);
}

static void stop(const char *node, const char *heap, unsigned int seconds)
{
	static unsigned char *pieces[PIECES];
	int from = open_file(heap), count, i;
	size_t written = 0, at;

	stream_a_frame(open_file(node));
	for (count = 0; count < PIECES; count++) {
		struct dma_heap_allocation_data data = { .len = PIECE, .fd_flags = O_RDWR };

		if (ioctl(from, DMA_HEAP_IOCTL_ALLOC, &data))
			break;
		/* The heap clears its memory. */
		pieces[count] = mmap(NULL, PIECE, PROT_READ, MAP_SHARED, data.fd, 0);
		if (pieces[count] == MAP_FAILED)
			fail("mmap");
	}
	sleep(seconds);
	for (i = 0; i < count; i++)
		for (at = 0; at < PIECE; at++)
			written += pieces[i][at] != 0;
	printf("%d pieces, bytes of others: %zu\n", count, written);
}

static void statistics(int node, int groups)
{
	enum v4l2_buf_type type = V4L2_BUF_TYPE_META_CAPTURE;
	struct v4l2_create_buffers create = { .memory = V4L2_MEMORY_MMAP, .format.type = type };
	int turn, group;

	request(node, VIDIOC_G_FMT, &create.format, "VIDIOC_G_FMT");
	for (turn = 0; turn < 2; turn++) {
		for (group = 0; group < groups; group++) {
			unsigned int i;

			create.count = GROUP;
			request(node, VIDIOC_CREATE_BUFS, &create, "VIDIOC_CREATE_BUFS");
			for (i = 0; i < create.count; i++)
				queue(node, type, create.index + i);
		}
		request(node, VIDIOC_STREAMON, &type, "VIDIOC_STREAMON");
		request(node, VIDIOC_STREAMOFF, &type, "VIDIOC_STREAMOFF");
		free_buffers(node, type);
	}
	printf("all buffers were freed\n");
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "stop")) {
		stop(argv[2], argv[3], atoi(argv[4]));
	} else if (argc == 4 && !strcmp(argv[1], "statistics")) {
		statistics(open_file(argv[2]), atoi(argv[3]));
	} else {
		fprintf(stderr, "usage: rkisp1-buffers stop NODE HEAP SECONDS, or statistics NODE GROUPS\n");
		return 2;
	}
	return 0;
}
