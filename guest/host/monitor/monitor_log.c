/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "monitor_text.h"

enum { LOG_MODE = 0640, ENTRY_ROOM = 128 + TEXT_TIME_ROOM };

static const char *const stream_names[LOG_STREAMS] = { "stdout", "stderr" };

/* A log is a regular file: what is not, a fifo say, could stop us. The descriptor, or -errno. */
static int open_file(const char *path, int flags, struct stat *st)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, LOG_MODE);
	int ret = fd < 0 ? -errno : 0;

	if (ret < 0)
		return ret;
	if (fstat(fd, st) < 0)
		ret = -errno;
	else if (!S_ISREG(st->st_mode))
		ret = -EINVAL;
	/* Ours may be a narrow umask: those who collect logs have a group. */
	if (ret == 0 && st->st_size == 0)
		(void)!fchmod(fd, LOG_MODE);
	if (ret < 0)
		close(fd);
	return ret < 0 ? ret : fd;
}

int log_reopen(struct log *log)
{
	struct stat st;
	char last = '\n';
	int fd;

	if (log->format == LOG_NONE)
		return 0;
	fd = open_file(log->path, 0, &st);
	if (fd < 0)
		return fd;
	if (log->fd >= 0)
		close(log->fd);
	log->fd = fd;
	log->size = (uint64_t)st.st_size;
	/* Who wrote before us may have been killed at it. */
	log->torn = st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	return 0;
}

int log_open(struct log *log)
{
	log->fd = -1;
	return log_reopen(log);
}

void log_close(struct log *log)
{
	if (log->fd >= 0)
		close(log->fd);
	log->fd = -1;
}

/* As much as goes; log->error says why it was not all. */
static size_t write_most(struct log *log, const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(log->fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			log->error = -errno;
			break;
		}
		done += (size_t)n;
	}
	return done;
}

/* Takes back the last len bytes of the file, which may be shorter by now than we know. */
static bool take_back(const struct log *log, size_t len)
{
	struct stat st;

	return len == 0 || (fstat(log->fd, &st) == 0 && (size_t)st.st_size >= len && ftruncate(log->fd, st.st_size - (off_t)len) == 0);
}

static uint64_t count_lines(const char *text, size_t len)
{
	uint64_t count = 0;

	for (size_t i = 0; i < len; i++)
		count += text[i] == '\n';
	return count;
}

static void log_flush(struct log *log)
{
	size_t done = 0, whole;

	if (log->out_len == 0)
		return;
	if (log->torn)
		log->torn = write_most(log, "\n", 1) != 1;
	if (!log->torn)
		done = write_most(log, log->out, log->out_len);
	whole = done;
	while (whole > 0 && log->out[whole - 1] != '\n')
		whole--;
	if (!take_back(log, done - whole))
		log->torn = true;
	log->lost += count_lines(log->out + whole, log->out_len - whole);
	log->size += whole;
	log->out_len = 0;
}

static int rename_old(const struct log *log)
{
	char from[PATH_MAX], to[PATH_MAX];

	for (unsigned int i = log->max_files - 1; i > 0; i--) {
		int len = snprintf(to, sizeof(to), "%s.%u", log->path, i);

		if (len < 0 || (size_t)len >= sizeof(to))
			return -ENAMETOOLONG;
		if (i > 1)
			snprintf(from, sizeof(from), "%s.%u", log->path, i - 1);
		if (rename(i > 1 ? from : log->path, to) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* The new file is there before the old one is moved: a full disk means a log that is too long, not one that ends. */
static int log_rotate(struct log *log)
{
	char path[PATH_MAX];
	struct stat st;
	int len = snprintf(path, sizeof(path), "%s.new", log->path), fd, ret;

	if (len < 0 || (size_t)len >= sizeof(path))
		return -ENAMETOOLONG;
	if (log->max_files <= 1) {
		ret = ftruncate(log->fd, 0) < 0 ? -errno : 0;
		log->size = ret == 0 ? 0 : log->size;
		return ret;
	}
	fd = open_file(path, O_TRUNC, &st);
	if (fd < 0)
		return fd;
	ret = rename_old(log);
	if (ret == 0 && rename(path, log->path) < 0)
		ret = -errno;
	if (ret < 0) {
		unlink(path);
		close(fd);
		return ret;
	}
	close(log->fd);
	log->fd = fd;
	log->size = 0;
	log->torn = false;
	return 0;
}

static size_t format_json(char *out, int stream, const uint8_t *text, size_t len, bool ended, const char *when)
{
	char *at = stpcpy(out, "{\"log\":\"");

	at += text_json(at, text, len);
	if (ended)
		at = stpcpy(at, "\\n");
	at = stpcpy(stpcpy(at, "\",\"stream\":\""), stream_names[stream]);
	at = stpcpy(stpcpy(stpcpy(at, "\",\"time\":\""), when), "\"}\n");
	return (size_t)(at - out);
}

static size_t format_cri(char *out, int stream, const uint8_t *text, size_t len, bool ended, const char *when)
{
	char *at = stpcpy(stpcpy(stpcpy(stpcpy(out, when), " "), stream_names[stream]), ended ? " F " : " P ");

	memcpy(at, text, len);
	at += len;
	*at++ = '\n';
	return (size_t)(at - out);
}

static void log_entry(struct log *log, int stream, const uint8_t *text, size_t len, bool ended, const char *when)
{
	size_t size;

	if (LOG_OUT - log->out_len < TEXT_JSON_FACTOR * len + ENTRY_ROOM)
		log_flush(log);
	if (log->format == LOG_JSON)
		size = format_json(log->out + log->out_len, stream, text, len, ended, when);
	else
		size = format_cri(log->out + log->out_len, stream, text, len, ended, when);
	if (log->max_size > 0 && log->size + log->out_len > 0 && log->size + log->out_len + size > log->max_size) {
		const char *entry = log->out + log->out_len;
		int ret;

		log_flush(log);
		ret = log_rotate(log);
		if (ret < 0)
			log->error = ret;
		memmove(log->out, entry, size);
	}
	log->out_len += size;
}

/* Takes what belongs to the line that has begun. Returns how much of data that was. */
static size_t log_take(struct log *log, int stream, const uint8_t *data, size_t len, const char *when)
{
	struct log_line *line = &log->lines[stream];
	const uint8_t *end = memchr(data, '\n', len);
	size_t take = end != NULL ? (size_t)(end - data) : len, room = LOG_LINE_MAX - line->len, whole;

	if (end != NULL && line->len == 0 && take <= room) {
		log_entry(log, stream, data, take, true, when);
		return take + 1;
	}
	memcpy(line->data + line->len, data, take < room ? take : room);
	line->len += take < room ? take : room;
	if (take > room) {
		whole = text_whole(line->data, line->len);
		log_entry(log, stream, line->data, whole, false, when);
		line->len -= whole;
		memmove(line->data, line->data + whole, line->len);
		return room;
	}
	if (end == NULL)
		return take;
	log_entry(log, stream, line->data, line->len, true, when);
	line->len = 0;
	return take + 1;
}

static void stamp(char when[TEXT_TIME_ROOM])
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	text_time(when, &now);
}

void log_write(struct log *log, int stream, const uint8_t *data, size_t len)
{
	char when[TEXT_TIME_ROOM];

	if (log->format == LOG_NONE)
		return;
	stamp(when);
	while (len > 0) {
		size_t taken = log_take(log, stream, data, len, when);

		data += taken;
		len -= taken;
	}
	log_flush(log);
}

void log_end(struct log *log)
{
	char when[TEXT_TIME_ROOM];

	if (log->format == LOG_NONE)
		return;
	stamp(when);
	for (int stream = 0; stream < LOG_STREAMS; stream++) {
		struct log_line *line = &log->lines[stream];

		if (line->len > 0)
			log_entry(log, stream, line->data, line->len, false, when);
		line->len = 0;
	}
	log_flush(log);
}
