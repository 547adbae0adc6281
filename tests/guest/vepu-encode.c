/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: has a memory-to-memory encoder make JPEGs of raw pictures.
 *   vepu-encode NODE FORMAT QUALITY COUNT INPUT OUTPUT [CROPWIDTH CROPHEIGHT]
 *     encodes the first COUNT pictures of INPUT, of 640x480 in the format with this code, each with its own request of both queues, and
 *     writes the JPEGs to OUTPUT one after the other; prints the length of each, and how many of its two buffers have the flag of an error
 * v4l2-ctl 1.22.1 sets the format of JPEGs once more after it has requested buffers of raw pictures. The driver hantro-vpu of Linux 6.1 takes
 * that as a change of the raw format, and dereferences a null pointer.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/videodev2.h>

#define WIDTH 640
#define HEIGHT 480
#define RAW V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE
#define CODED V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static void request(int fd, unsigned long number, void *argument, const char *what)
{
	if (ioctl(fd, number, argument) < 0)
		fail(what);
}

static unsigned int set_format(int node, enum v4l2_buf_type type, unsigned int code)
{
	struct v4l2_format format = { .type = type };

	format.fmt.pix_mp.width = WIDTH;
	format.fmt.pix_mp.height = HEIGHT;
	format.fmt.pix_mp.pixelformat = code;
	format.fmt.pix_mp.field = V4L2_FIELD_NONE;
	request(node, VIDIOC_S_FMT, &format, "VIDIOC_S_FMT");
	if (format.fmt.pix_mp.pixelformat != code || format.fmt.pix_mp.width != WIDTH ||
	    format.fmt.pix_mp.height != HEIGHT) {
		fprintf(stderr, "another format\n");
		exit(2);
	}
	return format.fmt.pix_mp.num_planes;
}

/* Requests a buffer, and maps its planes. */
static void get_buffer(int node, enum v4l2_buf_type type, unsigned int planes, void **memory, unsigned int *sizes)
{
	struct v4l2_requestbuffers one = { .count = 1, .type = type, .memory = V4L2_MEMORY_MMAP };
	struct v4l2_plane of_buffer[VIDEO_MAX_PLANES] = {};
	struct v4l2_buffer buffer = { .type = type, .memory = V4L2_MEMORY_MMAP, .length = planes };

	request(node, VIDIOC_REQBUFS, &one, "VIDIOC_REQBUFS");
	buffer.m.planes = of_buffer;
	request(node, VIDIOC_QUERYBUF, &buffer, "VIDIOC_QUERYBUF");
	for (unsigned int plane = 0; plane < planes; plane++) {
		sizes[plane] = of_buffer[plane].length;
		memory[plane] = mmap(NULL, sizes[plane], PROT_READ | PROT_WRITE, MAP_SHARED, node,
				     of_buffer[plane].m.mem_offset);
		if (memory[plane] == MAP_FAILED)
			fail("mmap");
	}
}

static void queue(int node, enum v4l2_buf_type type, unsigned int planes, const unsigned int *sizes)
{
	struct v4l2_plane of_buffer[VIDEO_MAX_PLANES] = {};
	struct v4l2_buffer buffer = { .type = type, .memory = V4L2_MEMORY_MMAP, .length = planes };

	for (unsigned int plane = 0; plane < planes; plane++)
		of_buffer[plane].bytesused = sizes[plane];
	buffer.m.planes = of_buffer;
	request(node, VIDIOC_QBUF, &buffer, "VIDIOC_QBUF");
}

/* Waits for the buffer of a queue. Returns how much of its first plane is used, and adds whether the buffer has an error. */
static unsigned int dequeue(int node, enum v4l2_buf_type type, unsigned int planes, int *errors)
{
	struct v4l2_plane of_buffer[VIDEO_MAX_PLANES] = {};
	struct v4l2_buffer buffer = { .type = type, .memory = V4L2_MEMORY_MMAP, .length = planes };

	buffer.m.planes = of_buffer;
	request(node, VIDIOC_DQBUF, &buffer, "VIDIOC_DQBUF");
	*errors += !!(buffer.flags & V4L2_BUF_FLAG_ERROR);
	return of_buffer[0].bytesused;
}

int main(int count, char **words)
{
	enum v4l2_buf_type both[] = { RAW, CODED };
	struct v4l2_control quality = { .id = V4L2_CID_JPEG_COMPRESSION_QUALITY };
	void *raw[VIDEO_MAX_PLANES], *coded[VIDEO_MAX_PLANES];
	unsigned int sizes[VIDEO_MAX_PLANES], size, code, planes, used;
	int node, pictures, errors;
	FILE *input, *output;

	if (count != 7 && count != 9) {
		fprintf(stderr, "vepu-encode NODE FORMAT QUALITY COUNT INPUT OUTPUT [CROPWIDTH CROPHEIGHT]\n");
		return 2;
	}
	node = open(words[1], O_RDWR);
	if (node < 0)
		fail(words[1]);
	input = fopen(words[5], "r");
	if (!input)
		fail(words[5]);
	output = fopen(words[6], "w");
	if (!output)
		fail(words[6]);
	code = v4l2_fourcc(words[2][0], words[2][1], words[2][2], words[2][3]);
	quality.value = atoi(words[3]);
	pictures = atoi(words[4]);

	/* The driver resets the raw format when the other one is set. */
	set_format(node, CODED, V4L2_PIX_FMT_JPEG);
	planes = set_format(node, RAW, code);
	request(node, VIDIOC_S_CTRL, &quality, "VIDIOC_S_CTRL");
	if (count == 9) {
		struct v4l2_selection crop = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT, .target = V4L2_SEL_TGT_CROP };

		crop.r.width = atoi(words[7]);
		crop.r.height = atoi(words[8]);
		request(node, VIDIOC_S_SELECTION, &crop, "VIDIOC_S_SELECTION");
	}
	get_buffer(node, RAW, planes, raw, sizes);
	get_buffer(node, CODED, 1, coded, &size);
	for (int index = 0; index < 2; index++)
		request(node, VIDIOC_STREAMON, &both[index], "VIDIOC_STREAMON");
	while (pictures-- > 0) {
		for (unsigned int plane = 0; plane < planes; plane++) {
			if (fread(raw[plane], 1, sizes[plane], input) != sizes[plane])
				fail("the input ends");
		}
		queue(node, CODED, 1, &size);
		queue(node, RAW, planes, sizes);
		errors = 0;
		dequeue(node, RAW, planes, &errors);
		used = dequeue(node, CODED, 1, &errors);
		printf("%u bytes, %d errors\n", used, errors);
		if (used > size || fwrite(coded[0], 1, used, output) != used)
			fail("the output");
	}
	for (int index = 0; index < 2; index++)
		request(node, VIDIOC_STREAMOFF, &both[index], "VIDIOC_STREAMOFF");
	return fclose(output) ? 2 : 0;
}
