/* SPDX-License-Identifier: Apache-2.0 */
#include "mount_options.h"

#include <string.h>
#include <sys/mount.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

#define SUBPATH "x-runv.subpath="

/*
 * A word sets or clears a flag of mount(2), and an attribute of mount_setattr where there is one. With an "r" before it, it is the attribute on
 * the mount and all below. The three ways to keep access times exclude each other, so each clears them all first.
 */
static const struct word {
	const char *word;
	bool on;
	unsigned long flag;
	uint64_t attr, attr_clear;
} words[] = {
	{ "ro", true, MS_RDONLY, MOUNT_ATTR_RDONLY, 0 },
	{ "rw", false, MS_RDONLY, MOUNT_ATTR_RDONLY, 0 },
	{ "nosuid", true, MS_NOSUID, MOUNT_ATTR_NOSUID, 0 },
	{ "suid", false, MS_NOSUID, MOUNT_ATTR_NOSUID, 0 },
	{ "nodev", true, MS_NODEV, MOUNT_ATTR_NODEV, 0 },
	{ "dev", false, MS_NODEV, MOUNT_ATTR_NODEV, 0 },
	{ "noexec", true, MS_NOEXEC, MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", false, MS_NOEXEC, MOUNT_ATTR_NOEXEC, 0 },
	{ "nodiratime", true, MS_NODIRATIME, MOUNT_ATTR_NODIRATIME, 0 },
	{ "diratime", false, MS_NODIRATIME, MOUNT_ATTR_NODIRATIME, 0 },
	{ "nosymfollow", true, MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW, 0 },
	{ "symfollow", false, MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW, 0 },
	{ "relatime", true, MS_RELATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
	{ "noatime", true, MS_NOATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
	{ "strictatime", true, MS_STRICTATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "atime", false, MS_NOATIME, 0, MOUNT_ATTR__ATIME },
	{ "norelatime", false, MS_RELATIME, 0, MOUNT_ATTR__ATIME },
	{ "nostrictatime", false, MS_STRICTATIME, 0, MOUNT_ATTR__ATIME },
	{ "sync", true, MS_SYNCHRONOUS, 0, 0 },
	{ "async", false, MS_SYNCHRONOUS, 0, 0 },
	{ "dirsync", true, MS_DIRSYNC, 0, 0 },
	{ "iversion", true, MS_I_VERSION, 0, 0 },
	{ "noiversion", false, MS_I_VERSION, 0, 0 },
	{ "lazytime", true, MS_LAZYTIME, 0, 0 },
	{ "nolazytime", false, MS_LAZYTIME, 0, 0 },
	{ "silent", true, MS_SILENT, 0, 0 },
	{ "loud", false, MS_SILENT, 0, 0 },
	{ "mand", true, MS_MANDLOCK, 0, 0 },
	{ "nomand", false, MS_MANDLOCK, 0, 0 },
	{ "acl", true, MS_POSIXACL, 0, 0 },
	{ "noacl", false, MS_POSIXACL, 0, 0 },
	{ "defaults", true, 0, 0, 0 },
};

static const struct {
	const char *word;
	unsigned long flag;
} propagations[] = {
	{ "shared", MS_SHARED },
	{ "slave", MS_SLAVE },
	{ "private", MS_PRIVATE },
	{ "unbindable", MS_UNBINDABLE },
};

unsigned long mount_propagation(const char *word)
{
	for (size_t i = 0; i < sizeof(propagations) / sizeof(propagations[0]); i++) {
		if (strcmp(word, propagations[i].word) == 0)
			return propagations[i].flag;
		if (word[0] == 'r' && strcmp(word + 1, propagations[i].word) == 0)
			return propagations[i].flag | MS_REC;
	}
	return 0;
}

static const struct word *find_word(const char *word)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].word, word) == 0)
			return &words[i];
	}
	return NULL;
}

static void apply_attr(const struct word *word, uint64_t *set, uint64_t *clear)
{
	*set &= ~word->attr_clear;
	*clear |= word->attr_clear;
	if (word->on) {
		*set |= word->attr;
		*clear &= ~(word->attr & ~(uint64_t)MOUNT_ATTR__ATIME);
	} else {
		*set &= ~word->attr;
		*clear |= word->attr;
	}
}

static bool apply_word(const char *text, struct mount_options *options)
{
	const struct word *word = find_word(text);

	if (word) {
		options->flags = word->on ? options->flags | word->flag : options->flags & ~word->flag;
		apply_attr(word, &options->set, &options->clear);
		return true;
	}
	word = text[0] == 'r' ? find_word(text + 1) : NULL;
	if (!word || (!word->attr && !word->attr_clear))
		return false;
	apply_attr(word, &options->all_set, &options->all_clear);
	return true;
}

static int add_data(const struct node *mount, const char *word, struct mount_options *options, struct error *error)
{
	size_t used = strlen(options->data), len = strlen(word);

	if (used + len + 2 > sizeof(options->data))
		return node_fail(mount, "options", error, "are too long");
	if (used)
		options->data[used++] = ',';
	memcpy(options->data + used, word, len + 1);
	return 0;
}

static int parse_word(const struct node *mount, const char *word, struct mount_options *options, struct error *error)
{
	unsigned long propagation = mount_propagation(word);

	if (strcmp(word, "bind") == 0 || strcmp(word, "rbind") == 0) {
		options->bind = true;
		options->recursive |= word[0] == 'r';
		return 0;
	}
	if (strcmp(word, "remount") == 0) {
		options->remount = true;
		return 0;
	}
	if (strcmp(word, "tmpcopyup") == 0) {
		options->copy_up = true;
		return 0;
	}
	if (strcmp(word, "x-runv.copyup") == 0) {
		options->populate = true;
		return 0;
	}
	if (strcmp(word, "x-runv.grow") == 0) {
		options->grow = true;
		return 0;
	}
	if (strncmp(word, SUBPATH, strlen(SUBPATH)) == 0) {
		options->subpath = word + strlen(SUBPATH);
		return *options->subpath ? 0 : node_fail(mount, "options", error, "have an empty x-runv.subpath");
	}
	if (strcmp(word, "idmap") == 0 || strcmp(word, "ridmap") == 0)
		return error_set(error, KIND_UNSUPPORTED, "id-mapped mounts are not supported");
	if (propagation) {
		if (options->propagation_count == sizeof(options->propagation) / sizeof(options->propagation[0]))
			return node_fail(mount, "options", error, "have too many propagation words");
		options->propagation[options->propagation_count++] = propagation;
		return 0;
	}
	return apply_word(word, options) ? 0 : add_data(mount, word, options, error);
}

int mount_options_parse(const struct node *mount, struct mount_options *options, struct error *error)
{
	struct node list;
	const char *word, *type = "";

	memset(options, 0, sizeof(*options));
	if (opt_array(mount, "options", &list, error) < 0 || opt_str(mount, "type", &type, error) < 0)
		return -1;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_str(&list, i, &word, error) < 0 || parse_word(mount, word, options, error) < 0)
			return -1;
	}
	/* By the specification the options make a bind mount; some callers only set the type. */
	if (strcmp(type, "bind") == 0)
		options->bind = true;
	return 0;
}
