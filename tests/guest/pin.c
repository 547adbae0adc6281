/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: allocates memory (the first argument, in MiB), pins one page of every 16, and then runs
 * the command in the other arguments. A page in a pipe (vmsplice) has a reference that prevents its migration. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define EACH 16
#define PAGES_IN_A_PIPE 1024

static int fail(const char *what)
{
	perror(what);
	return 2;
}

int main(int argc, char **argv)
{
	size_t page = sysconf(_SC_PAGESIZE), length, at;
	int ends[2], room = 0;
	char *memory;

	if (argc < 3)
		return 2;
	length = strtoul(argv[1], NULL, 10) << 20;
	memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return fail("mmap");
	memset(memory, 1, length);
	for (at = 0; at < length; at += EACH * page, room--) {
		struct iovec one = { memory + at, page };

		if (!room) {
			/* The reading end stays open, but nothing reads from it. */
			if (pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, PAGES_IN_A_PIPE * page) < 0)
				return fail("pipe");
			room = PAGES_IN_A_PIPE;
		}
		if (vmsplice(ends[1], &one, 1, SPLICE_F_NONBLOCK) != (ssize_t)page)
			return fail("vmsplice");
	}
	/* The command inherits the pipes. */
	execvp(argv[2], argv + 2);
	return fail(argv[2]);
}
