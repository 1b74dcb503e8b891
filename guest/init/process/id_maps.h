/* SPDX-License-Identifier: Apache-2.0 */
/* id_maps: uidMappings and gidMappings, for a container's user namespace and for id-mapped mounts. */
#ifndef RUNV_ID_MAPS_H
#define RUNV_ID_MAPS_H

#include "jsonget.h"

/* Writes both of an object's into the user namespace of the process whose folder in /proc is proc_fd. 0 or -1 */
int id_maps_write(const struct node *object, int proc_fd, struct error *error);

/* A user namespace that nobody is in, with an object's mappings; or -1. */
int id_maps_namespace(const struct node *object, struct error *error);

#endif
