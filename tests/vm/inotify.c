/* SPDX-License-Identifier: Apache-2.0 */
/* Watches paths with inotify: says "ready", then a line for each event, its kinds, the path and the name. With --map it says how a file begins that is mapped. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct {
	const char *name;
	unsigned int bit;
} kinds[] = {
	{ "modify", IN_MODIFY }, { "attrib", IN_ATTRIB }, { "create", IN_CREATE }, { "delete", IN_DELETE },
	{ "from", IN_MOVED_FROM }, { "to", IN_MOVED_TO }, { "written", IN_CLOSE_WRITE }, { "self", IN_DELETE_SELF },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static int show_mapped(const char *path)
{
	const char *text = mmap(NULL, 1, PROT_READ, MAP_SHARED, open(path, O_RDONLY | O_CLOEXEC), 0);

	if (text == MAP_FAILED) {
		perror(path);
		return 1;
	}
	printf("%c\n", text[0]);
	return 0;
}

int main(int argc, char **argv)
{
	_Alignas(struct inotify_event) char data[4096];
	int fd = inotify_init1(IN_CLOEXEC);
	ssize_t len;

	if (argc == 3 && strcmp(argv[1], "--map") == 0)
		return show_mapped(argv[2]);
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	for (int i = 1; i < argc; i++) {
		unsigned int mask = 0;

		for (int kind = 0; kind < KINDS; kind++)
			mask |= kinds[kind].bit;
		if (inotify_add_watch(fd, argv[i], mask) != i) {
			perror(argv[i]);
			return 1;
		}
	}
	puts("ready");
	while ((len = read(fd, data, sizeof(data))) > 0) {
		for (ssize_t at = 0; at < len;) {
			const struct inotify_event *event = (const void *)(data + at);

			for (int kind = 0; kind < KINDS; kind++)
				if (event->mask & kinds[kind].bit)
					printf("%s ", kinds[kind].name);
			printf("%s %s\n", event->wd > 0 ? argv[event->wd] : "", event->len > 0 ? event->name : "");
			at += (ssize_t)(sizeof(*event) + event->len);
		}
	}
	return 1;
}
