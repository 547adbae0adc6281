/* Programs of a guest with a vsock: one that sends back what comes from the host, and one that checks what the host sends back. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Some versions of it need sys/socket.h before. */
#include <linux/vm_sockets.h>

static char buffer[1 << 16];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The byte at a place of the stream. Its period is no divisor of the buffers' length. */
static char byte_at(unsigned long at)
{
	return at % 251 ^ at >> 16;
}

static void write_all(int fd, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t count = write(fd, buffer + done, length - done);

		if (count < 0)
			fail("write");
		done += count;
	}
}

static int socket_for(int (*call)(int, const struct sockaddr *, socklen_t), unsigned int cid, unsigned int port)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || call(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("socket");
	return fd;
}

static void send_back(unsigned int port)
{
	int listener = socket_for(bind, VMADDR_CID_ANY, port);
	int fd;
	ssize_t count;

	if (listen(listener, 1))
		fail("listen");
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		fail("accept");
	while ((count = read(fd, buffer, sizeof(buffer))) > 0)
		write_all(fd, count);
	if (count < 0)
		fail("read");
}

static void check(unsigned int port, unsigned long length)
{
	int fd = socket_for(connect, VMADDR_CID_HOST, port);
	unsigned long at = 0;
	ssize_t count;
	int status;

	if (fork() == 0) {
		while (at < length) {
			size_t part = length - at < sizeof(buffer) ? length - at : sizeof(buffer);

			for (size_t i = 0; i < part; i++)
				buffer[i] = byte_at(at + i);
			write_all(fd, part);
			at += part;
		}
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	while ((count = read(fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t i = 0; i < count; i++, at++)
			if (buffer[i] != byte_at(at)) {
				fprintf(stderr, "byte %lu is wrong\n", at);
				exit(1);
			}
	wait(&status);
	if (count < 0 || status)
		fail("read");
	printf("%lu bytes came back\n", at);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "send-back") == 0)
		send_back(atoi(argv[2]));
	else if (argc == 4 && strcmp(argv[1], "check") == 0)
		check(atoi(argv[2]), strtoul(argv[3], NULL, 10));
	else
		fprintf(stderr, "vsock-echo send-back PORT | check PORT LENGTH\n");
	return 0;
}
