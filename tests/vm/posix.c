/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a POSIX file system does, checked one thing at a time in a new directory of the one given, by root and by a user without rights.
 *
 *   posix DIRECTORY [CHECK]     prints "ok NAME" or "failed NAME: WHY" for each
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { USER = 1000, MODEL_SIZE = 256 * 1024, MODEL_STEPS = 1500, MANY = 1200 };

static _Noreturn void fail(const char *what, int line)
{
	printf("line %d: %s: %s\n", line, what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

/* What must hold. errno is that of the call, or 0. */
#define T(expression) ((errno = 0, (expression)) ? (void)0 : fail(#expression, __LINE__))
#define FAILS(call, number) T((call) < 0 && errno == (number))

static int make(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	T(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	T(lstat(path, &st) == 0);
	return st;
}

static bool holds(const char *path, const char *text)
{
	char found[256] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd >= 0 ? read(fd, found, sizeof(found)) : -1;

	close(fd);
	return n == (ssize_t)strlen(text) && memcmp(found, text, (size_t)n) == 0;
}

/* Runs fn as a user without rights; its failures are its parent's. */
static void as_user(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		T(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
		fn();
		_exit(0);
	}
	T(waitpid(pid, &status, 0) == pid);
	if (status)
		_exit(1);
}

static bool child_says(bool (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn() ? 0 : 1);
	T(waitpid(pid, &status, 0) == pid);
	return status == 0;
}

static void check_create(void)
{
	umask(027);
	T(close(open("file", O_CREAT | O_EXCL | O_WRONLY, 0666)) == 0);
	T((stat_of("file").st_mode & 07777) == 0640);
	FAILS(open("file", O_CREAT | O_EXCL | O_WRONLY, 0666), EEXIST);
	FAILS(open("absent", O_RDONLY), ENOENT);
	FAILS(open("file/below", O_RDONLY), ENOTDIR);
	T(mkdir("folder", 0777) == 0 && (stat_of("folder").st_mode & 07777) == 0750);
	FAILS(open("folder", O_WRONLY), EISDIR);
}

static void check_names(void)
{
	char name[NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	name[NAME_MAX] = '\0';
	close(make(name, "long"));
	T(holds(name, "long") && unlink(name) == 0);
	name[NAME_MAX] = 'n';
	name[NAME_MAX + 1] = '\0';
	FAILS(open(name, O_CREAT | O_WRONLY, 0600), ENAMETOOLONG);
	close(make("with \"odd\"\n\t\\bytes\xc3\xbc\xff", "odd"));
	T(holds("with \"odd\"\n\t\\bytes\xc3\xbc\xff", "odd"));
}

static void check_owner_and_mode(void)
{
	close(make("file", ""));
	T(chown("file", 123456, 54321) == 0 && chmod("file", 06711) == 0);
	T(stat_of("file").st_uid == 123456 && stat_of("file").st_gid == 54321 && (stat_of("file").st_mode & 07777) == 06711);
	T(symlink("file", "link") == 0 && lchown("link", 7, 8) == 0);
	T(stat_of("link").st_uid == 7 && stat_of("file").st_uid == 123456);
}

static void check_group_of_a_setgid_folder(void)
{
	T(mkdir("folder", 0755) == 0 && chown("folder", 0, 777) == 0 && chmod("folder", 02775) == 0);
	close(make("folder/file", ""));
	T(mkdir("folder/below", 0755) == 0);
	T(stat_of("folder/file").st_gid == 777 && stat_of("folder/below").st_gid == 777 && stat_of("folder/below").st_mode & S_ISGID);
}

static void user_writes(void)
{
	int fd = open("file", O_WRONLY);

	T(fd >= 0 && write(fd, "x", 1) == 1);
}

static void check_writing_drops_setuid(void)
{
	close(make("file", ""));
	T(chown("file", USER, USER) == 0 && chmod("file", 06777) == 0);
	as_user(user_writes);
	T((stat_of("file").st_mode & 07777) == 0777);
}

static void user_is_kept_out(void)
{
	FAILS(open("secret", O_RDONLY), EACCES);
	FAILS(open("folder/file", O_RDONLY), EACCES);
	FAILS(unlink("sticky/file"), EPERM);
	FAILS(chown("secret", USER, USER), EPERM);
	FAILS(chmod("secret", 0777), EPERM);
	FAILS(mkdir("folder/x", 0700), EACCES);
	T(open("sticky/own", O_CREAT | O_WRONLY, 0600) >= 0 && stat_of("sticky/own").st_uid == USER && unlink("sticky/own") == 0);
}

static void check_permissions(void)
{
	close(make("secret", ""));
	T(chmod("secret", 0600) == 0 && mkdir("folder", 0700) == 0 && mkdir("sticky", 0755) == 0 && chmod("sticky", 01777) == 0);
	close(make("folder/file", ""));
	close(make("sticky/file", ""));
	T(chmod(".", 0755) == 0);
	as_user(user_is_kept_out);
}

static void check_hard_links(void)
{
	close(make("one", "same"));
	T(link("one", "two") == 0 && stat_of("one").st_ino == stat_of("two").st_ino && stat_of("two").st_nlink == 2);
	close(make("two", "changed"));
	T(holds("one", "changed") && unlink("one") == 0 && holds("two", "changed") && stat_of("two").st_nlink == 1);
	T(mkdir("folder", 0755) == 0);
	FAILS(link("folder", "other"), EPERM);
}

static void check_symbolic_links(void)
{
	char target[PATH_MAX] = "";

	T(symlink("to/nowhere", "link") == 0 && readlink("link", target, sizeof(target)) == 10 && strcmp(target, "to/nowhere") == 0);
	FAILS(open("link", O_RDONLY), ENOENT);
	FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
	memset(target, 'x', 900);
	target[900] = '\0';
	T(symlink(target, "long") == 0 && readlink("long", target, sizeof(target)) == 900);
}

static void check_rename(void)
{
	struct stat before;

	close(make("a", "a"));
	close(make("b", "b"));
	before = stat_of("a");
	T(rename("a", "b") == 0 && holds("b", "a") && stat_of("b").st_ino == before.st_ino);
	T(mkdir("full", 0755) == 0 && mkdir("empty", 0755) == 0 && mkdir("full/below", 0755) == 0);
	FAILS(rename("empty", "full"), ENOTEMPTY);
	FAILS(rename("b", "full"), EISDIR);
	FAILS(rename("full", "b"), ENOTDIR);
	FAILS(rename("full", "full/below/x"), EINVAL);
	T(rename("full", "empty") == 0 && stat_of("empty/below").st_nlink >= 1);
}

static void check_rename_without_replacing(void)
{
	close(make("a", "a"));
	close(make("b", "b"));
	FAILS(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	T(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE) == 0);
}

static void check_rename_exchange(void)
{
	close(make("a", "a"));
	close(make("b", "b"));
	T(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE) == 0 && holds("a", "b") && holds("b", "a"));
}

static void check_renamed_while_open(void)
{
	int fd = make("a", "a");

	T(mkdir("folder", 0755) == 0 && rename("a", "folder/b") == 0);
	T(write(fd, "more", 4) == 4 && fsync(fd) == 0 && holds("folder/b", "amore"));
	T(rename("folder", "other") == 0 && write(fd, "!", 1) == 1 && holds("other/b", "amore!"));
}

static void check_unlinked_while_open(void)
{
	char found[8] = "";
	struct stat st;
	int fd = make("file", "kept");

	T(unlink("file") == 0);
	FAILS(open("file", O_RDONLY), ENOENT);
	T(pread(fd, found, 4, 0) == 4 && strcmp(found, "kept") == 0);
	T(pwrite(fd, "more", 4, 4) == 4 && pread(fd, found, 8, 0) == 8 && memcmp(found, "keptmore", 8) == 0);
	T(close(make("file", "another")) == 0 && pread(fd, found, 4, 0) == 4 && memcmp(found, "kept", 4) == 0);
	T(fstat(fd, &st) == 0 && st.st_size == 8);
}

static void check_attributes_of_the_unlinked(void)
{
	struct stat st;
	int fd = make("file", "kept");

	T(unlink("file") == 0);
	T(fstat(fd, &st) == 0 && st.st_nlink == 0);
	T(ftruncate(fd, 2) == 0 && fstat(fd, &st) == 0 && st.st_size == 2);
	T(fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0600);
}

static void check_nameless_files(void)
{
	char path[64];
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);

	T(fd >= 0 && write(fd, "text", 4) == 4);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	T(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0 && holds("named", "text"));
}

static void check_removed_folder(void)
{
	T(mkdir("folder", 0755) == 0 && chdir("folder") == 0 && rmdir("../folder") == 0);
	FAILS(open("file", O_CREAT | O_WRONLY, 0600), ENOENT);
}

static void check_many_entries(void)
{
	bool seen[MANY] = { false };
	unsigned int count = 0;
	struct dirent *entry;
	char name[32];
	DIR *dir;

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "entry-%d", i);
		close(make(name, ""));
	}
	T((dir = opendir(".")) != NULL);
	while ((entry = readdir(dir))) {
		int number;

		if (sscanf(entry->d_name, "entry-%d", &number) != 1)
			continue;
		T(number >= 0 && number < MANY && !seen[number]);
		seen[number] = true;
		count++;
		T(unlink(entry->d_name) == 0);
	}
	T(count == MANY);
	rewinddir(dir);
	while ((entry = readdir(dir)))
		T(strncmp(entry->d_name, "entry-", 6) != 0);
}

static void check_appending(void)
{
	int one = open("file", O_CREAT | O_WRONLY | O_APPEND, 0600), two = open("file", O_WRONLY | O_APPEND);

	T(one >= 0 && two >= 0);
	for (int i = 0; i < 10; i++)
		T(write(one, "1", 1) == 1 && write(two, "2", 1) == 1);
	T(holds("file", "12121212121212121212"));
}

static void check_truncating(void)
{
	char found[20];
	int fd = make("file", "0123456789");

	T(ftruncate(fd, 4) == 0 && ftruncate(fd, 20) == 0 && pread(fd, found, 20, 0) == 20);
	T(memcmp(found, "0123\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20) == 0);
	T(truncate("file", 0) == 0 && pread(fd, found, 20, 0) == 0);
}

static void check_large_and_sparse(void)
{
	int fd = make("file", "");

	T(pwrite(fd, "end", 3, (off_t)5 << 30) == 3 && stat_of("file").st_size == ((off_t)5 << 30) + 3);
	T(stat_of("file").st_blocks < 1 << 16);
}

static void check_holes(void)
{
	int fd = make("file", "");

	T(pwrite(fd, "end", 3, 1 << 20) == 3 && fsync(fd) == 0 && lseek(fd, 0, SEEK_DATA) > 0);
}

static void check_allocating(void)
{
	int fd = make("file", "");

	T(fallocate(fd, 0, 0, 1 << 20) == 0 && stat_of("file").st_size == 1 << 20);
}

static void check_punching_holes(void)
{
	char found[4096], text[8192];
	int fd = make("file", "");

	memset(text, 'x', sizeof(text));
	T(write(fd, text, sizeof(text)) == sizeof(text));
	T(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 && pread(fd, found, 4096, 0) == 4096 && found[17] == 0);
}

static void check_direct_io(void)
{
	void *block;
	int fd = open("file", O_CREAT | O_RDWR | O_DIRECT, 0600);

	T(fd >= 0 && posix_memalign(&block, 4096, 4096) == 0);
	memset(block, 'd', 4096);
	T(pwrite(fd, block, 4096, 0) == 4096);
	memset(block, 0, 4096);
	T(pread(fd, block, 4096, 0) == 4096 && ((char *)block)[4095] == 'd');
}

static void check_copying(void)
{
	int from = make("from", "content"), to = make("to", "");
	off_t at = 0;

	T(copy_file_range(from, &at, to, NULL, 7, 0) == 7 && holds("to", "content"));
}

static void check_times(void)
{
	struct timespec times[2] = { { 1000000000, 123456789 }, { 1500000000, 987654321 } };
	struct stat st;

	close(make("file", ""));
	T(utimensat(AT_FDCWD, "file", times, 0) == 0);
	st = stat_of("file");
	T(st.st_mtim.tv_sec == 1500000000 && st.st_mtim.tv_nsec == 987654321);
	T(st.st_atim.tv_sec == 1000000000);
	T(st.st_atim.tv_nsec == 123456789);
	times[0].tv_nsec = UTIME_OMIT;
	times[1].tv_nsec = UTIME_NOW;
	T(utimensat(AT_FDCWD, "file", times, 0) == 0 && stat_of("file").st_atim.tv_sec == 1000000000);
	T(stat_of("file").st_mtim.tv_sec > 1500000000);
}

static void check_writing_changes_the_time(void)
{
	struct timespec old[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
	int fd = make("file", "");

	T(futimens(fd, old) == 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0);
	T(stat_of("file").st_mtim.tv_sec > 1000000000);
}

static void check_mapping(void)
{
	char found[5] = "", *map;
	int fd = make("file", "0123456789");

	T((map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED);
	T(memcmp(map, "0123456789", 10) == 0);
	memcpy(map, "map", 3);
	T(msync(map, 4096, MS_SYNC) == 0 && pread(fd, found, 4, 0) == 4 && strcmp(found, "map3") == 0);
	T(pwrite(fd, "pw", 2, 4) == 2 && memcmp(map, "map3pw", 6) == 0);
	T(munmap(map, 4096) == 0 && close(fd) == 0 && holds("file", "map3pw6789"));
}

static bool child_maps(void)
{
	int fd = open("file", O_RDWR);
	char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return false;
	map[0] = 'c';
	return true;
}

static void check_mapping_between_processes(void)
{
	char *map;
	int fd = make("file", "0123456789");

	T((map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED);
	T(child_says(child_maps) && map[0] == 'c');
}

static void check_mapping_of_the_unlinked(void)
{
	char found[2] = "", *map;
	int fd = make("file", "0123456789");

	T((map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED && unlink("file") == 0);
	map[0] = 'u';
	T(msync(map, 4096, MS_SYNC) == 0 && pread(fd, found, 1, 0) == 1 && found[0] == 'u');
}

static void check_running(void)
{
	char buffer[65536];
	int from = open("/proc/self/exe", O_RDONLY), to = open("program", O_CREAT | O_WRONLY, 0755), status;
	ssize_t n;
	pid_t pid;

	T(from >= 0 && to >= 0);
	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		T(write(to, buffer, (size_t)n) == n);
	T(close(to) == 0);
	pid = fork();
	if (pid == 0) {
		execl("./program", "posix", NULL);
		_exit(99);
	}
	T(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 2);
}

static void check_user_attributes(void)
{
	char found[64] = "";

	close(make("file", ""));
	T(setxattr("file", "user.one", "value", 5, 0) == 0 && getxattr("file", "user.one", found, sizeof(found)) == 5 && strcmp(found, "value") == 0);
	T(listxattr("file", found, sizeof(found)) >= 9);
	FAILS(setxattr("file", "user.one", "x", 1, XATTR_CREATE), EEXIST);
	T(removexattr("file", "user.one") == 0);
	FAILS(getxattr("file", "user.one", found, sizeof(found)), ENODATA);
}

static void check_trusted_attributes(void)
{
	close(make("file", ""));
	T(setxattr("file", "trusted.one", "value", 5, 0) == 0);
}

static void check_file_capabilities(void)
{
	/* VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective */
	static const unsigned char capability[20] = { 1, 0, 0, 2, 0, 0x20 };
	char found[64];

	close(make("file", ""));
	T(setxattr("file", "security.capability", capability, sizeof(capability), 0) == 0);
	T(getxattr("file", "security.capability", found, sizeof(found)) == sizeof(capability) && memcmp(found, capability, sizeof(capability)) == 0);
}

static void user_reads(void)
{
	T(open("file", O_RDONLY) >= 0);
	FAILS(open("file", O_WRONLY), EACCES);
}

static void check_access_lists(void)
{
	/* Version 2: user::rw- user:1000:r-- group::--- mask::r-- other::--- */
	static const struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} entries[5];
	} acl = { 2, { { 1, 6, ~0U }, { 2, 4, USER }, { 4, 0, ~0U }, { 16, 4, ~0U }, { 32, 0, ~0U } } };

	close(make("file", ""));
	T(setxattr("file", "system.posix_acl_access", &acl, sizeof(acl), 0) == 0 && chmod(".", 0755) == 0);
	as_user(user_reads);
}

static bool child_locks_record(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
	int fd = open("file", O_RDWR);

	return fcntl(fd, F_SETLK, &lock) == 0;
}

static void check_record_locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
	int fd = make("file", "x");

	T(fcntl(fd, F_SETLK, &lock) == 0 && !child_says(child_locks_record));
	lock.l_start = 5;
	T(fcntl(fd, F_SETLK, &lock) == 0);
	lock.l_start = 0;
	lock.l_type = F_UNLCK;
	T(fcntl(fd, F_SETLK, &lock) == 0 && child_says(child_locks_record));
}

static bool child_locks_file(void)
{
	return flock(open("file", O_RDWR), LOCK_EX | LOCK_NB) == 0;
}

static void check_whole_file_locks(void)
{
	int fd = make("file", "x");

	T(flock(fd, LOCK_EX) == 0 && !child_says(child_locks_file));
	T(flock(fd, LOCK_SH) == 0 && !child_says(child_locks_file));
	T(close(fd) == 0 && child_says(child_locks_file));
}

static void check_open_file_locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int one = make("file", "x"), two = open("file", O_RDWR);

	T(fcntl(one, F_OFD_SETLK, &lock) == 0);
	T(fcntl(two, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES));
	T(close(one) == 0 && fcntl(two, F_OFD_SETLK, &lock) == 0);
}

static void check_fifos(void)
{
	char found[5] = "";
	int fd;

	T(mkfifo("pipe", 0600) == 0 && S_ISFIFO(stat_of("pipe").st_mode));
	T((fd = open("pipe", O_RDWR | O_NONBLOCK)) >= 0 && write(fd, "text", 4) == 4 && read(fd, found, 4) == 4 && strcmp(found, "text") == 0);
}

static void check_sockets(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);

	T(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0);
	T(S_ISSOCK(stat_of("socket").st_mode) && connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
	FAILS(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof(address)), EADDRINUSE);
}

static void check_device_nodes(void)
{
	T(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	T(S_ISCHR(stat_of("null").st_mode) && stat_of("null").st_rdev == makedev(1, 3));
}

static void check_watching(void)
{
	char events[1024];
	int fd = inotify_init1(IN_NONBLOCK);

	T(inotify_add_watch(fd, ".", IN_CREATE | IN_MODIFY | IN_DELETE) >= 0);
	close(make("file", "x"));
	T(read(fd, events, sizeof(events)) > 0);
}

static void check_space(void)
{
	struct statfs fs;

	T(statfs(".", &fs) == 0 && fs.f_blocks > 0 && fs.f_bavail > 0 && fs.f_namelen == NAME_MAX);
}

/* Random reads, writes, truncations and mappings of one file against a copy in memory, reopened now and then. */
static void check_random_operations(void)
{
	static char model[MODEL_SIZE], found[MODEL_SIZE];
	size_t size = 0;
	int fd = make("file", "");

	srandom(20240229);
	for (int step = 0; step < MODEL_STEPS; step++) {
		size_t at = (size_t)random() % MODEL_SIZE, len = (size_t)random() % (MODEL_SIZE - at) % 20000 + 1;
		char *map;

		switch (random() % 6) {
		case 0:
		case 1:
			memset(model + at, 'a' + step % 26, len);
			T(pwrite(fd, model + at, len, (off_t)at) == (ssize_t)len);
			size = size > at + len ? size : at + len;
			break;
		case 2:
			T(ftruncate(fd, (off_t)at) == 0);
			memset(model + at, 0, MODEL_SIZE - at);
			size = at;
			break;
		case 3:
			if (at + len > size)
				break;
			T((map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED);
			T(memcmp(map + at, model + at, len) == 0);
			memset(map + at, 'A' + step % 26, len);
			memset(model + at, 'A' + step % 26, len);
			T(munmap(map, size) == 0);
			break;
		case 4:
			T(close(fd) == 0 && (fd = open("file", O_RDWR)) >= 0);
			break;
		default:
			T(pread(fd, found, MODEL_SIZE, 0) == (ssize_t)size && memcmp(found, model, size) == 0);
		}
	}
	T(pread(fd, found, MODEL_SIZE, 0) == (ssize_t)size && memcmp(found, model, size) == 0);
}

#define CHECK(name) { #name, check_##name }

static const struct {
	const char *name;
	void (*run)(void);
} checks[] = {
	CHECK(create), CHECK(names), CHECK(owner_and_mode), CHECK(group_of_a_setgid_folder), CHECK(writing_drops_setuid), CHECK(permissions),
	CHECK(hard_links), CHECK(symbolic_links), CHECK(rename), CHECK(rename_without_replacing), CHECK(rename_exchange),
	CHECK(renamed_while_open), CHECK(unlinked_while_open), CHECK(attributes_of_the_unlinked), CHECK(nameless_files), CHECK(removed_folder),
	CHECK(many_entries), CHECK(appending), CHECK(truncating), CHECK(large_and_sparse), CHECK(holes), CHECK(allocating),
	CHECK(punching_holes), CHECK(direct_io), CHECK(copying), CHECK(times), CHECK(writing_changes_the_time), CHECK(mapping),
	CHECK(mapping_between_processes), CHECK(mapping_of_the_unlinked), CHECK(running), CHECK(user_attributes), CHECK(trusted_attributes),
	CHECK(file_capabilities), CHECK(access_lists), CHECK(record_locks), CHECK(whole_file_locks), CHECK(open_file_locks), CHECK(fifos),
	CHECK(sockets), CHECK(device_nodes), CHECK(watching), CHECK(space), CHECK(random_operations),
};

/* Each in a process of its own: it changes its directory, its mask and what it has open. */
static void run(size_t index)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		umask(022);
		alarm(60);
		if (mkdir(checks[index].name, 0755) < 0 || chdir(checks[index].name) < 0)
			fail("the directory of the check", __LINE__);
		printf("failed %s: ", checks[index].name);
		/* Said only when it fails: what is in the buffer is lost at an end by _exit. */
		checks[index].run();
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		exit(3);
	if (WIFSIGNALED(status))
		printf("failed %s: signal %d\n", checks[index].name, WTERMSIG(status));
	else if (status == 0)
		printf("ok %s\n", checks[index].name);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (chdir(argv[1]) < 0)
		return 3;
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		if (argc < 3 || strcmp(argv[2], checks[i].name) == 0)
			run(i);
	}
	return 0;
}
