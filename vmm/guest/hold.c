/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in the guest of `minivmm reproduce`: gives a CMA window the bitmap of a board, pins pages, and requests pages.
 * The arguments are the window's folder in debugfs, its dma-buf heap, and the file with the steps, a line each:
 *   h ID N       a buffer of N pages from the heap, held
 *   c ID         frees that buffer
 *   v FILE       compares the bitmap with FILE; if they differ, frees all buffers and starts again, a few times
 *   t PAGE N     one of the N pages from PAGE of the window on is to be pinned
 *   p            pins them
 *   r N          requests N pages from the heap, and prints the error
 *   d N          requests N pages through debugfs, at no alignment, and prints the error
 * It needs no library, so that every compiler can build it. */
#include <stdarg.h>
#include <stddef.h>

typedef unsigned long u64;

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, CLOSE = 3, MMAP = 9, MUNMAP = 11, IOCTL = 16, FCNTL = 72, SYSINFO = 99, PREAD = 17,
	EXIT = 231, OPENAT = 257, VMSPLICE = 278, PIPE2 = 293, PRLIMIT = 302 };

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, CLOSE = 57, MMAP = 222, MUNMAP = 215, IOCTL = 29, FCNTL = 25, SYSINFO = 179, PREAD = 67,
	EXIT = 94, OPENAT = 56, VMSPLICE = 75, PIPE2 = 59, PRLIMIT = 261 };

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");
#else
#error "guests are x86_64 and aarch64"
#endif

#define BUFFERS 65536
#define TILES 65536
#define PIPE_PAGES 256
/* include/uapi: dma-heap.h, fcntl.h, mman.h, resource.h, auxvec.h */
#define DMA_HEAP_IOCTL_ALLOC 0xc0184800UL
#define AT_FDCWD -100
#define O_RDWR 2
#define O_WRONLY 1
#define O_CLOEXEC 02000000
#define F_SETPIPE_SZ 1031
#define RLIMIT_NOFILE 7
#define PROT_READ_WRITE 3
#define MAP_PRIVATE_ANONYMOUS 0x22
#define SPLICE_F_NONBLOCK 2
#define AT_PAGESZ 6
#define TRIES 5
/* What stays free of the guest's memory while pages are pinned. */
#define RESERVE (24UL << 20)

struct heap_allocation { u64 length; unsigned int fd, fd_flags; u64 heap_flags; };
struct pages_in_range { u64 pfn, count; int pinned; };
struct memory { void *base; size_t length; };
struct system { long uptime; u64 loads[3], total, free, rest[16]; };

static int buffers[BUFFERS];
static struct pages_in_range tiles[TILES];
static unsigned int tile_count;
static char steps[4 << 20], bitmap[4 << 20], wanted[4 << 20];
static u64 page = 4096, base_pfn;

static void print(const char *format, ...)
{
	char line[256], digits[24];
	size_t length = 0, at;
	va_list arguments;

	va_start(arguments, format);
	for (; *format && length < sizeof(line) - 32; format++) {
		long number;
		u64 rest;

		if (*format != '%') {
			line[length++] = *format;
			continue;
		}
		number = va_arg(arguments, long);
		if (number < 0)
			line[length++] = '-';
		rest = number < 0 ? -number : number;
		at = 0;
		do
			digits[at++] = '0' + rest % 10;
		while (rest /= 10);
		while (at)
			line[length++] = digits[--at];
	}
	va_end(arguments);
	call(WRITE, 1, (long)line, length, 0, 0, 0);
}

static void leave(int status)
{
	for (;;)
		call(EXIT, status, 0, 0, 0, 0, 0);
}

static long open_file(const char *folder, const char *name, long flags)
{
	char path[512];
	size_t length = 0;

	while (*folder && length < sizeof(path) - 64)
		path[length++] = *folder++;
	while (*name && length < sizeof(path) - 1)
		path[length++] = *name++;
	path[length] = 0;
	return call(OPENAT, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0, 0, 0);
}

static int read_file(const char *folder, const char *name, char *text, size_t size)
{
	long fd = open_file(folder, name, 0), got;
	size_t length = 0;

	if (fd < 0)
		return 0;
	while (length < size - 1 && (got = call(READ, fd, (long)text + length, size - 1 - length, 0, 0, 0)) > 0)
		length += got;
	call(CLOSE, fd, 0, 0, 0, 0, 0);
	text[length] = 0;
	return 1;
}

static const char *number(const char *text, u64 *value)
{
	while (*text == ' ')
		text++;
	for (*value = 0; *text >= '0' && *text <= '9'; text++)
		*value = *value * 10 + *text - '0';
	return text;
}

/* Whether two texts have the same numbers. */
static int same(const char *one, const char *two)
{
	for (;;) {
		while (*one == ' ' || *one == '\n')
			one++;
		while (*two == ' ' || *two == '\n')
			two++;
		if (*one != *two)
			return 0;
		if (!*one)
			return 1;
		while (*one && *one != ' ' && *one != '\n') {
			if (*one != *two)
				return 0;
			one++, two++;
		}
		if (*two >= '0' && *two <= '9')
			return 0;
	}
}

static long allocate(long heap, u64 pages)
{
	struct heap_allocation request = { .length = pages * page, .fd_flags = O_RDWR | O_CLOEXEC };
	long result = call(IOCTL, heap, DMA_HEAP_IOCTL_ALLOC, (long)&request, 0, 0, 0);

	return result < 0 ? result : (long)request.fd;
}

static void free_buffer(u64 id)
{
	if (id < BUFFERS && buffers[id] >= 0) {
		call(CLOSE, buffers[id], 0, 0, 0, 0, 0);
		buffers[id] = -1;
	}
}

/* Pins the page at an address: a pipe has a reference to it. */
static int pin(void *address)
{
	static int ends[2], room;
	struct memory one = { address, page };

	if (!room) {
		if (call(PIPE2, (long)ends, O_CLOEXEC, 0, 0, 0, 0) < 0)
			return 0;
		call(FCNTL, ends[1], F_SETPIPE_SZ, PIPE_PAGES * page, 0, 0, 0);
		room = PIPE_PAGES;
	}
	if (call(VMSPLICE, ends[1], (long)&one, 1, SPLICE_F_NONBLOCK, 0, 0) != (long)page) {
		room = 0;
		return 0;
	}
	room--;
	return 1;
}

/* Takes nearly all free memory, so that it has the free pages of the window, pins one page of each tile, and frees the rest. */
static void pin_tiles(void)
{
	static struct memory parts[65536];
	static u64 map[512];
	struct system system;
	size_t part = 1 << 20, count = 0, at, index;
	long pagemap = open_file("/proc/self/", "pagemap", 0);
	unsigned int tile;
	long pinned = 0;

	while (count < 65536 && !call(SYSINFO, (long)&system, 0, 0, 0, 0, 0) && system.free > RESERVE) {
		long base = call(MMAP, 0, part, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);

		if (base < 0 && base > -4096)
			break;
		parts[count].base = (void *)base;
		parts[count++].length = part;
		for (at = 0; at < part; at += page)
			((volatile char *)base)[at] = 1;
	}
	for (index = 0; pagemap >= 0 && index < count; index++) {
		u64 first = (u64)parts[index].base / page, pages = part / page, done;

		for (done = 0; done < pages; done += 512) {
			u64 some = pages - done < 512 ? pages - done : 512;

			if (call(PREAD, pagemap, (long)map, some * 8, (first + done) * 8, 0, 0) != (long)(some * 8))
				break;
			for (at = 0; at < some; at++) {
				/* Documentation/admin-guide/mm/pagemap.rst: bit 63 is present, the lower 55 bits are the number. */
				u64 pfn = map[at] >> 63 ? map[at] & ((1UL << 55) - 1) : 0;
				unsigned int low = 0, high = tile_count;

				while (low < high) {
					unsigned int middle = (low + high) / 2;

					if (tiles[middle].pfn + tiles[middle].count <= pfn)
						low = middle + 1;
					else
						high = middle;
				}
				if (low < tile_count && pfn >= tiles[low].pfn && !tiles[low].pinned)
					tiles[low].pinned = pin((char *)parts[index].base + (done + at) * page);
			}
		}
	}
	for (index = 0; index < count; index++)
		call(MUNMAP, (long)parts[index].base, parts[index].length, 0, 0, 0, 0);
	for (tile = 0; tile < tile_count; tile++)
		pinned += tiles[tile].pinned;
	print("pinned % of %\n", pinned, (long)tile_count);
}

static int run(const char *folder, long heap)
{
	const char *at = steps;
	u64 one, two;
	int tries = 0;
	long got;

	while (*at) {
		char verb = *at++;
		const char *end = at;

		while (*end && *end != '\n')
			end++;
		switch (verb) {
		case 'h':
			at = number(at, &one);
			number(at, &two);
			if (one >= BUFFERS)
				return 2;
			got = allocate(heap, two);
			if (got < 0)
				print("a buffer of % pages: error %\n", (long)two, got);
			else
				buffers[one] = got;
			break;
		case 'c':
			number(at, &one);
			free_buffer(one);
			break;
		case 'v':
			if (!read_file(folder, "/bitmap", bitmap, sizeof(bitmap)) || !read_file("/reproduce/", "bitmap", wanted, sizeof(wanted)))
				return 2;
			if (same(bitmap, wanted)) {
				print("the bitmap is the board's\n");
				break;
			}
			if (++tries < TRIES) {
				for (one = 0; one < BUFFERS; one++)
					free_buffer(one);
				at = steps;
				continue;
			}
			print("the bitmap is not the board's\n");
			break;
		case 't':
			at = number(at, &one);
			number(at, &two);
			if (tile_count < TILES) {
				tiles[tile_count].pfn = base_pfn + one;
				tiles[tile_count++].count = two;
			}
			break;
		case 'p':
			pin_tiles();
			break;
		case 'r':
			number(at, &one);
			got = allocate(heap, one);
			print("request % answer %\n", (long)one, got < 0 ? got : 0);
			break;
		case 'd': {
			char digits[24];
			size_t length = 0;
			long fd = open_file(folder, "/alloc", O_WRONLY);

			number(at, &one);
			for (two = one; two || !length; two /= 10)
				length++;
			for (two = length; two--; one /= 10)
				digits[two] = '0' + one % 10;
			got = call(WRITE, fd, (long)digits, length, 0, 0, 0);
			number(at, &one);
			print("request % answer %\n", (long)one, got < 0 ? got : 0);
			call(CLOSE, fd, 0, 0, 0, 0, 0);
			break;
		}
		case '\n':
			continue;
		default:
			return 2;
		}
		at = *end ? end + 1 : end;
	}
	return 0;
}

__attribute__((used)) void begin(long *stack)
{
	long arguments = stack[0], *words = stack + 1 + arguments + 1;
	char **names = (char **)(stack + 1);
	struct { u64 now, most; } files = { BUFFERS + 4096, BUFFERS + 4096 };
	long heap;
	size_t index;

	/* The auxiliary vector follows the environment. */
	while (*words++)
		;
	for (; words[0]; words += 2)
		if (words[0] == AT_PAGESZ)
			page = words[1];
	if (arguments < 4 || call(PRLIMIT, 0, RLIMIT_NOFILE, (long)&files, 0, 0, 0) < 0)
		leave(2);
	for (index = 0; index < BUFFERS; index++)
		buffers[index] = -1;
	heap = open_file("", names[2], O_RDWR);
	if (heap < 0) {
		print("the guest has no dma-buf heap for the window: error %\n", heap);
		leave(3);
	}
	if (!read_file(names[1], "/base_pfn", bitmap, sizeof(bitmap)) || !read_file("", names[3], steps, sizeof(steps)))
		leave(2);
	number(bitmap, &base_pfn);
	leave(run(names[1], heap));
}
