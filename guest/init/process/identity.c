/* SPDX-License-Identifier: Apache-2.0 */
#include "identity.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum { GROUPS_MAX = 65536 };

static const uint64_t ADMIN = 1ULL << CAP_SYS_ADMIN;

int identity_parse(const struct node *process, struct identity *identity, struct error *error)
{
	int64_t uid = 0, gid = 0;
	struct node user;

	memset(identity, 0, sizeof(*identity));
	if (opt_object(process, "user", &user, error) < 0 || opt_int(&user, "uid", 0, UINT32_MAX - 1, &uid, error) < 0 ||
	    opt_int(&user, "gid", 0, UINT32_MAX - 1, &gid, error) < 0 ||
	    opt_bool(process, "noNewPrivileges", &identity->no_new_privileges, error) < 0)
		return -1;
	identity->uid = (uid_t)uid;
	identity->gid = (gid_t)gid;
	return caps_parse(process, &identity->caps, error);
}

static int set_groups(const struct node *user, struct error *error)
{
	cleanup_free gid_t *groups = NULL;
	struct node list;
	size_t count;

	if (opt_array(user, "additionalGids", &list, error) < 0)
		return -1;
	count = array_len(&list);
	if (count > GROUPS_MAX)
		return node_fail(user, "additionalGids", error, "has too many entries");
	groups = calloc(count + 1, sizeof(*groups));
	if (!groups)
		return error_sys(error, ENOMEM, "cannot set the groups");
	for (size_t i = 0; i < count; i++) {
		int64_t gid;

		if (array_int(&list, i, 0, UINT32_MAX - 1, &gid, error) < 0)
			return -1;
		groups[i] = (gid_t)gid;
	}
	if (setgroups(count, groups) < 0)
		return error_sys(error, errno, "cannot set the groups");
	return 0;
}

static int set_user(const struct node *process, const struct identity *identity, struct error *error)
{
	int64_t mask = 022;
	struct node user;

	if (opt_object(process, "user", &user, error) < 0 || opt_int(&user, "umask", 0, 0777, &mask, error) < 0)
		return -1;
	umask((mode_t)mask);
	if (set_groups(&user, error) < 0)
		return -1;
	if (setresgid(identity->gid, identity->gid, identity->gid) < 0)
		return error_sys(error, errno, "cannot become group %u", (unsigned int)identity->gid);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_sys(error, errno, "cannot keep the capabilities");
	if (setresuid(identity->uid, identity->uid, identity->uid) < 0)
		return error_sys(error, errno, "cannot become user %u", (unsigned int)identity->uid);
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	return 0;
}

static uint64_t kept(const struct identity *identity)
{
	return identity->no_new_privileges ? 0 : ADMIN;
}

int identity_assume(const struct node *process, const struct identity *identity, struct error *error)
{
	const struct caps *caps = &identity->caps;
	uint64_t permitted = caps->permitted | caps->effective;

	if (caps_drop_bounding(caps->bounding, error) < 0 || set_user(process, identity, error) < 0)
		return -1;
	/* Ambient capabilities have to be permitted and inheritable; where the caller says otherwise, they are ignored as in runc. */
	if (caps_set(caps->effective, permitted | kept(identity), caps->inheritable, error) < 0 ||
	    caps_raise_ambient(caps->ambient & permitted & caps->inheritable, error) < 0)
		return -1;
	if (identity->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_sys(error, errno, "cannot set no_new_privs");
	return 0;
}

int identity_unseal(const struct identity *identity, struct error *error)
{
	const struct caps *caps = &identity->caps;

	/* The call is spared, also because a profile need not allow it then. */
	if (identity->no_new_privileges)
		return 0;
	return caps_set(caps->effective | kept(identity), caps->permitted | caps->effective | kept(identity), caps->inheritable, error);
}

int identity_seal(const struct identity *identity, struct error *error)
{
	const struct caps *caps = &identity->caps;

	if (identity->no_new_privileges)
		return 0;
	return caps_set(caps->effective, caps->permitted | caps->effective, caps->inheritable, error);
}
