/* SPDX-License-Identifier: Apache-2.0 */
/*
 * touch: inotify for files that the host has changed (docs/agent-protocol.md, "Touching"). A process of its own holds the folders of a container's shares
 * open and touches in them what the host's watcher names.
 */
#ifndef RUNV_TOUCH_H
#define RUNV_TOUCH_H

#include "outward.h"

outward_fn touch_run;

#endif
