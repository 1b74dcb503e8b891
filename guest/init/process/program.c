/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum { HELD_MAX = 16 };

char **program_strings(const struct node *node, const char *member, size_t extra, struct error *error)
{
	struct node list;
	char **strings;

	if (opt_array(node, member, &list, error) < 0)
		return NULL;
	strings = calloc(array_len(&list) + extra + 1, sizeof(*strings));
	if (!strings) {
		error_sys(error, ENOMEM, "cannot read %s", member);
		return NULL;
	}
	for (size_t i = 0; i < array_len(&list); i++) {
		const char *text;

		if (array_str(&list, i, &text, error) < 0) {
			free(strings);
			return NULL;
		}
		strings[i] = (char *)(uintptr_t)text;
	}
	return strings;
}

static const char *find_env(const struct program *program, const char *name)
{
	size_t len = strlen(name);

	for (char **entry = program->env; *entry; entry++) {
		if (strncmp(*entry, name, len) == 0 && (*entry)[len] == '=')
			return *entry + len + 1;
	}
	return NULL;
}

/* The container's file may be anything, also a pipe that nobody writes to. */
static FILE *open_passwd(void)
{
	int fd = open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	FILE *file = NULL;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		file = fdopen(fd, "re");
	if (!file)
		cleanup_closep(&fd);
	return file;
}

/* "name:password:uid:gid:gecos:home:shell": the home, if the uid is the one. */
static const char *match_home(char *line, uid_t uid)
{
	char *fields[7] = { NULL }, *rest = line;

	line[strcspn(line, "\n")] = '\0';
	for (int i = 0; i < 7 && rest; i++)
		fields[i] = strsep(&rest, ":");
	if (!fields[5] || !fields[2][0] || strspn(fields[2], "0123456789") != strlen(fields[2]))
		return NULL;
	return strtoull(fields[2], NULL, 10) == uid ? fields[5] : NULL;
}

static void find_home(uid_t uid, char *home, size_t size)
{
	cleanup_file FILE *file = open_passwd();
	char line[4096];

	snprintf(home, size, "/");
	while (file && fgets(line, sizeof(line), file)) {
		const char *found = match_home(line, uid);

		if (found) {
			snprintf(home, size, "%s", *found ? found : "/");
			return;
		}
	}
}

static int add_home(struct program *program, uid_t uid, struct error *error)
{
	char home[PATH_MAX], **end = program->env;

	if (find_env(program, "HOME"))
		return 0;
	find_home(uid, home, sizeof(home));
	while (*end)
		end++;
	if (asprintf(end, "HOME=%s", home) < 0) {
		*end = NULL;
		return error_sys(error, ENOMEM, "cannot set HOME");
	}
	return 0;
}

int program_parse(const struct node *process, uid_t uid, struct program *program, struct error *error)
{
	program->args = program_strings(process, "args", 0, error);
	if (!program->args)
		return -1;
	if (!program->args[0])
		return node_fail(process, "args", error, "must not be empty");
	program->env = program_strings(process, "env", 1, error);
	return program->env ? add_home(program, uid, error) : -1;
}

/* 0, or the errno that execve would give. The path is walked once: on a share each part of it costs five questions to the host. */
static int check_executable(struct program *program, int folder_fd, const char *path)
{
	cleanup_close int fd = openat(folder_fd, path, O_PATH | O_CLOEXEC);
	struct stat *st = &program->found;

	if (fd < 0 || fstat(fd, st) < 0)
		return errno;
	/* Even who may do everything cannot execute what nobody may, nor a folder. */
	if (!S_ISREG(st->st_mode) || !(st->st_mode & 0111))
		return EACCES;
	if (faccessat(fd, "", X_OK, AT_EACCESS | AT_EMPTY_PATH) < 0)
		return errno;
	program->held_fd = steal_fd(&fd);
	return 0;
}

/* The next folder of PATH, which *at is moved past; false: it is none that could have the program. */
static bool next_folder(const char **at, const char *name, char *path, size_t size, size_t *len)
{
	size_t given = strcspn(*at, ":");
	int n = snprintf(path, size, "%.*s/%s", given ? (int)given : 1, given ? *at : ".", name);

	*len = given ? given : 1;
	*at = (*at)[given] ? *at + given + 1 : NULL;
	return n > 0 && (size_t)n < size;
}

/*
 * The folders that were looked into stay open meanwhile, since what nobody holds of a share is forgotten, and they have parents in common: without that
 * /usr is asked for four times.
 */
static int search_path(struct program *program)
{
	const char *name = program->args[0], *at = find_env(program, "PATH");
	int held[HELD_MAX], result = ENOENT;
	size_t count = 0, len;

	if (!at)
		at = "/bin:/usr/bin";
	while (result && at) {
		char folder[sizeof(program->path)];
		int fd;

		if (!next_folder(&at, name, program->path, sizeof(program->path), &len))
			continue;
		memcpy(folder, program->path, len);
		folder[len] = '\0';
		fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		result = check_executable(program, fd, name);
		if (count < HELD_MAX)
			held[count++] = fd;
		else
			close(fd);
	}
	while (count > 0)
		close(held[--count]);
	return result;
}

int program_lookup(struct program *program, struct error *error)
{
	const char *name = program->args[0];
	int errnum;

	if (!strchr(name, '/')) {
		if (*name && search_path(program) == 0)
			return 0;
		error_set(error, KIND_FAILED, "exec: \"%.512s\": executable file not found in $PATH", name);
		error->errnum = ENOENT;
		return -1;
	}
	if (strlen(name) >= sizeof(program->path))
		return error_sys(error, ENAMETOOLONG, "exec: \"%.512s\"", name);
	strcpy(program->path, name);
	errnum = check_executable(program, AT_FDCWD, name);
	return errnum ? error_sys(error, errnum, "exec: \"%.512s\"", name) : 0;
}

static bool same_time(const struct timespec *one, const struct timespec *other)
{
	return one->tv_sec == other->tv_sec && one->tv_nsec == other->tv_nsec;
}

void program_hold(struct program *program)
{
	const struct stat *found = &program->found;
	struct stat now;

	if (program->held_fd < 0)
		return;
	if (fstat(program->held_fd, &now) < 0 || now.st_dev != found->st_dev || now.st_ino != found->st_ino || now.st_size != found->st_size ||
	    now.st_mode != found->st_mode || !same_time(&now.st_mtim, &found->st_mtim) || !same_time(&now.st_ctim, &found->st_ctim))
		cleanup_closep(&program->held_fd);
}
