/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup.h"

int device_filter_attach(int cgroup_fd, const struct node *resources, struct error *error)
{
	(void)cgroup_fd; (void)resources; (void)error;
	return 0;
}
