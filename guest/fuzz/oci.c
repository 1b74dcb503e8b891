/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what reads the objects of the OCI specification: JSON in, nothing done. */
#include <stdlib.h>
#include <string.h>

#include "caps.h"
#include "cgroup.h"
#include "identity.h"
#include "mount_options.h"
#include "program.h"
#include "seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_mounts(const struct node *oci)
{
	struct mount_options options;
	struct error error;
	struct node list, entry;

	if (opt_array(oci, "mounts", &list, &error) < 0)
		return;
	for (size_t i = 0; i < array_len(&list); i++) {
		if (array_object(&list, i, &entry, &error) == 0)
			(void)mount_options_parse(&entry, &options, &error);
	}
}

static void read_process(const struct node *oci)
{
	struct identity identity;
	struct program program = { 0 };
	struct error error;
	struct node process;

	if (get_object(oci, "process", &process, &error) < 0)
		return;
	(void)identity_parse(&process, &identity, &error);
	/* Without HOME a file is read, which is not what is fuzzed, and memory taken that a child never frees. */
	if (json_is_array(json_object_get(process.json, "env")))
		json_array_append_new(json_object_get(process.json, "env"), json_string("HOME=/"));
	else
		json_object_set_new((json_t *)(uintptr_t)process.json, "env", json_pack("[s]", "HOME=/"));
	(void)program_parse(&process, 0, &program, &error);
	free(program.args);
	free(program.env);
}

static void read_linux(const struct node *oci)
{
	struct seccomp_program program;
	struct error error;
	struct node linux_node, resources;

	if (get_object(oci, "linux", &linux_node, &error) < 0)
		return;
	(void)seccomp_build(&linux_node, &program, &error);
	free(program.filter.filter);
	/* No cgroup: every file is missing. */
	if (opt_object(&linux_node, "resources", &resources, &error) >= 0)
		(void)cgroup_apply_limits(-1, &resources, &error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	json_t *json;
	struct node oci;

	if (!text)
		abort();
	memcpy(text, data, size);
	json = json_parse(text, size);
	free(text);
	if (!json)
		return 0;
	oci = (struct node){ .json = json, .name = "oci" };
	read_mounts(&oci);
	read_process(&oci);
	read_linux(&oci);
	json_decref(json);
	return 0;
}
