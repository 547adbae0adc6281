/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: does the operations on standard input to a CMA window, and prints after each operation the kernel's
 * values: errno, used, maxchunk. The arguments are the window's folder in debugfs, the window's dma-buf heap (optional),
 * and a camera that allocates from the window (optional). An operation is a line:
 *   a N     debugfs alloc: N pages, at no alignment
 *   f N     debugfs free: the first N pages of the last allocations (mm/cma_debug.c, cma_free_mem)
 *   h ID N  a buffer of N pages from the heap, at its alignment
 *   c ID    closes that buffer
 *   v N     VIDIOC_CREATE_BUFS: one more buffer of the camera, of N pages
 *   w       VIDIOC_REQBUFS: frees the camera's buffers
 *   r       frees everything
 *   b       also prints the bitmap, or the bitmaps of all ranges separated by | */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/dma-heap.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define BUFFERS 4096

static char text[1 << 20];

/* The output is collected until the end. Otherwise the reader would run meanwhile, and a preemptible kernel such as 7.2 could
 * stop it in the middle of a page fault. If the fault has taken a page that an operation has just freed, the page cannot be
 * migrated, and the next allocation skips it. */
static char answers[64 << 20];

static int open_file(int folder, const char *name, int flags)
{
	int fd = openat(folder, name, flags);

	if (fd < 0) {
		perror(name);
		exit(2);
	}
	return fd;
}

static const char *read_file(int folder, const char *name)
{
	int fd = open_file(folder, name, O_RDONLY);
	ssize_t length = 0, got;

	while ((got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += got;
	close(fd);
	text[length] = 0;
	return text;
}

static int write_number(int fd, unsigned long number)
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%lu", number);

	return write(fd, digits, length) == length ? 0 : errno;
}

/* Linux up to 6.14 has no ranges. Newer releases have a link `bitmap` to the bitmap of the first range. */
static void print_bitmaps(int folder)
{
	char name[32] = "bitmap";
	int range = 0;

	do {
		/* The kernel truncates the newline of a full bitmap (fs/debugfs/file.c, u32_array_open). */
		printf("%c%.*s", range ? '|' : ' ', (int)strcspn(read_file(folder, name), "\n"), text);
		snprintf(name, sizeof(name), "ranges/%d/bitmap", ++range);
	} while (!faccessat(folder, name, R_OK, 0));
}

static int allocate(int heap, unsigned long pages, int *buffer)
{
	struct dma_heap_allocation_data data = {
		.len = pages * sysconf(_SC_PAGESIZE),
		.fd_flags = O_RDWR | O_CLOEXEC,
	};

	if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data))
		return errno;
	*buffer = data.fd;
	return 0;
}

static int close_buffer(int *buffer)
{
	int fd = *buffer;

	*buffer = -1;
	return close(fd) ? errno : 0;
}

/* The format with the smallest frames, so that a buffer of any size is large enough. */
static int open_camera(const char *name, struct v4l2_format *format)
{
	int fd = open_file(AT_FDCWD, name, O_RDWR);

	format->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	format->fmt.pix.width = format->fmt.pix.height = 1;
	format->fmt.pix.pixelformat = V4L2_PIX_FMT_GREY;
	if (ioctl(fd, VIDIOC_S_FMT, format)) {
		perror(name);
		exit(2);
	}
	return fd;
}

static int create_buffer(int camera, const struct v4l2_format *format, unsigned long pages)
{
	struct v4l2_create_buffers create = {
		.count = 1,
		.memory = V4L2_MEMORY_MMAP,
		.format = *format,
	};

	create.format.fmt.pix.sizeimage = pages * sysconf(_SC_PAGESIZE);
	return ioctl(camera, VIDIOC_CREATE_BUFS, &create) ? errno : 0;
}

static int free_buffers(int camera)
{
	struct v4l2_requestbuffers none = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_MMAP,
	};

	return ioctl(camera, VIDIOC_REQBUFS, &none) ? errno : 0;
}

int main(int argc, char **argv)
{
	struct rlimit files = { BUFFERS + 64, BUFFERS + 64 };
	static int buffers[BUFFERS];
	struct v4l2_format format = { 0 };
	int folder, alloc, release, heap = -1, camera = -1;
	unsigned long id, pages;
	char verb;

	if (argc < 2 || setrlimit(RLIMIT_NOFILE, &files) || setvbuf(stdout, answers, _IOFBF, sizeof(answers)))
		return 2;
	folder = open_file(AT_FDCWD, argv[1], O_RDONLY | O_DIRECTORY);
	alloc = open_file(folder, "alloc", O_WRONLY);
	release = open_file(folder, "free", O_WRONLY);
	if (argc > 2)
		heap = open_file(AT_FDCWD, argv[2], O_RDWR);
	if (argc > 3)
		camera = open_camera(argv[3], &format);
	memset(buffers, -1, sizeof(buffers));

	while (scanf(" %c", &verb) == 1) {
		int error = 0;

		switch (verb) {
		case 'a':
		case 'f':
			if (scanf("%lu", &pages) != 1)
				return 2;
			error = write_number(verb == 'a' ? alloc : release, pages);
			break;
		case 'h':
			if (scanf("%lu %lu", &id, &pages) != 2 || id >= BUFFERS)
				return 2;
			error = allocate(heap, pages, &buffers[id]);
			break;
		case 'c':
			if (scanf("%lu", &id) != 1 || id >= BUFFERS)
				return 2;
			error = close_buffer(&buffers[id]);
			break;
		case 'v':
			if (scanf("%lu", &pages) != 1)
				return 2;
			error = create_buffer(camera, &format, pages);
			break;
		case 'w':
			error = free_buffers(camera);
			break;
		case 'r':
			for (id = 0; id < BUFFERS; id++)
				if (buffers[id] >= 0)
					close_buffer(&buffers[id]);
			if (camera >= 0)
				free_buffers(camera);
			error = write_number(release, INT_MAX);
			break;
		case 'b':
			break;
		default:
			return 2;
		}
		printf("%d %lu", error, strtoul(read_file(folder, "used"), NULL, 10));
		printf(" %lu", strtoul(read_file(folder, "maxchunk"), NULL, 10));
		if (verb == 'b')
			print_bitmaps(folder);
		putchar('\n');
	}
	return 0;
}
