/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "monitor.h"

size_t monitor_log_state(const struct monitor *monitor, char *text, size_t size)
{
	const struct log *log = &monitor->log;
	bool complete = log->lost == 0 && !monitor->cut && !monitor->orphaned;
	int len = snprintf(text, size, "{\"complete\":%s,\"lost\":%llu,\"error\":\"%s\"}", complete ? "true" : "false",
			   (unsigned long long)log->lost, log->error < 0 ? strerror(-log->error) : "");

	return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

static void on_output(struct stdio *stdio, int number, const uint8_t *data, size_t len)
{
	struct monitor *monitor = container_of(stdio, struct monitor, stdio);

	log_write(&monitor->log, number, data, len);
	clients_output(&monitor->clients, number == 0 ? FRAME_STDOUT : FRAME_STDERR, data, len);
	/* What still comes of an ended process puts the end off. */
	loop_disarm(&monitor->loop, &monitor->patience);
}

static void on_input_taken(struct stdio *stdio)
{
	clients_resume(&container_of(stdio, struct monitor, stdio)->clients);
}

const struct stdio_ops monitor_stdio_ops = { .output = on_output, .input_taken = on_input_taken };

static bool input_ready(struct clients *clients)
{
	return stdio_input_ready(&container_of(clients, struct monitor, clients)->stdio);
}

static void on_input(struct clients *clients, const uint8_t *data, size_t len)
{
	struct monitor *monitor = container_of(clients, struct monitor, clients);

	if (monitor->options.input)
		stdio_input(&monitor->stdio, data, len);
}

static void on_input_end(struct clients *clients)
{
	struct monitor *monitor = container_of(clients, struct monitor, clients);

	if (monitor->options.input_once)
		stdio_input_end(&monitor->stdio);
}

static void on_resize(struct clients *clients, unsigned int rows, unsigned int columns)
{
	/* Without a terminal it has no meaning, and whoever resizes need not know. */
	(void)stdio_resize(&container_of(clients, struct monitor, clients)->stdio, rows, columns);
}

static int on_reopen(struct clients *clients)
{
	return log_reopen(&container_of(clients, struct monitor, clients)->log);
}

static size_t on_status(struct clients *clients, char *text, size_t size)
{
	struct monitor *monitor = container_of(clients, struct monitor, clients);
	int len = snprintf(text, size, "{\"pid\":%d,\"log\":", (int)monitor->pid);
	size_t at = (size_t)len;

	at += monitor_log_state(monitor, text + at, size - at - 1);
	text[at++] = '}';
	return at;
}

const struct clients_ops monitor_clients_ops = {
	.input_ready = input_ready,
	.input = on_input,
	.input_end = on_input_end,
	.resize = on_resize,
	.reopen = on_reopen,
	.status = on_status,
};
