/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup.h"

int cgroup_apply_limits(int cgroup_fd, const struct node *resources, struct error *error)
{
	(void)cgroup_fd; (void)resources; (void)error;
	return 0;
}
