/* The only program of a guest of tests/src/reserved: loads the module of tests/guest/pools, and prints what it and the kernel say. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

/* Action of syslog(2). */
#define SYSLOG_ACTION_CONSOLE_LEVEL 8

/* Parts of the kernel's messages about reserved memory. */
static const char *const parts[] = { "pools", "eserved", "cma", "CMA", "OF: ", "DMA pool", "swiotlb", "WARNING", "BUG" };

static void print_meminfo(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "Cma", 3) || !strncmp(line, "MemTotal", 8))
			printf("%s", line);
}

static void print_iomem(void)
{
	FILE *file = fopen("/proc/iomem", "r");
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, ": System RAM") || strstr(line, ": reserved") || strstr(line, ": Kernel "))
			printf("iomem %s", line);
}

/* The number in a file of debugfs, or 0. */
static unsigned long long number_in(const char *area, const char *name)
{
	char path[512];
	unsigned long long number = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/debug/cma/%s/%s", area, name);
	file = fopen(path, "r");
	if (file) {
		if (fscanf(file, "%llu", &number) != 1)
			number = 0;
		fclose(file);
	}
	return number;
}

/* The CMA areas in debugfs. An area has its base in a folder of its range since 6.15. */
static void print_areas(void)
{
	DIR *folder = opendir("/debug/cma");
	struct dirent *entry;

	if (!folder)
		return;
	puts("areas");
	while ((entry = readdir(folder))) {
		unsigned long long base;

		if (entry->d_name[0] == '.')
			continue;
		base = number_in(entry->d_name, "base_pfn");
		if (!base)
			base = number_in(entry->d_name, "ranges/0/base_pfn");
		printf("area %s %llu %llu\n", entry->d_name, base, number_in(entry->d_name, "count"));
	}
}

static void print_messages(void)
{
	static char record[1 << 14];
	int file = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	ssize_t length;

	/* A read is one record. Other messages can overwrite one meanwhile (EPIPE), which the end of the log would hide. */
	while ((length = read(file, record, sizeof(record) - 1)) > 0) {
		char *text;

		record[length] = 0;
		/* Facilities but the kernel's are ours. */
		if (atoi(record) > 7)
			continue;
		text = strchr(record, ';');
		if (text) {
			text[strcspn(text, "\n")] = 0;
			for (size_t part = 0; part < sizeof(parts) / sizeof(*parts); part++)
				if (strstr(text, parts[part])) {
					printf("log %s\n", text + 1);
					break;
				}
		}
	}
}

int main(void)
{
	int module = open("/pools.ko", O_RDONLY);
	int console;

	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, "");
	mount("dev", "/dev", "devtmpfs", 0, "");
	mkdir("/debug", 0700);
	mount("debug", "/debug", "debugfs", 0, "");
	console = open("/dev/console", O_RDWR);
	/* From here on, only a panic is on the console. Without one, the log is the output. */
	if (console >= 0)
		klogctl(SYSLOG_ACTION_CONSOLE_LEVEL, NULL, 1);
	else
		console = open("/dev/kmsg", O_WRONLY);
	dup2(console, 1);
	/* A line of the log is one write. */
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	puts("BEGIN");
	fflush(stdout);
	/* The module does its work when it is loaded, and then refuses to stay. */
	syscall(SYS_finit_module, module, "", 0);
	print_meminfo();
	print_iomem();
	print_areas();
	print_messages();
	puts("END");
	fflush(stdout);
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return EXIT_FAILURE;
}
