/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of ends. When the first process of a pid namespace ends, the kernel has every other one of it end, and be waited for, before that is seen;
 * engines count on it. In the guest it is so, but on the host each process has a stand-in of its own, and these end in any order.
 */
#ifndef RUNV_STANDIN_EXECS_H
#define RUNV_STANDIN_EXECS_H

/*
 * Returns when the processes of the pid files in a folder ("<pid> <start time>", as runv writes them) have ended, and those whose parent is ours as well
 * were waited for. After two seconds it returns anyway: one whose output nobody reads must not hold up the end of the container. A folder that is not
 * there has none.
 */
void execs_wait(const char *folder);

#endif
