/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runv-relay: the host's end of connections that begin inside (docs/agent-protocol.md, "Relays"). The guest opens channels on its link; each is connected
 * to the target of that number. It lives as long as the link.
 */
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/queue.h>

#include "mux.h"
#include "relay_target.h"
#include "resident.h"

enum {
	TARGETS_MAX = 256,
	RETRY_MS = 10,
	PATIENCE_MS = 30000, /* how long a connection waits while the target's queue is full */
	WAITING_MAX = MUX_CHANNELS_MAX,
	FILES_WANTED = 3 * MUX_CHANNELS_MAX + 64,
};

/* A channel whose target is there, but takes no connection at the moment. */
struct waiting {
	struct relay *relay;
	struct timer retry;
	LIST_ENTRY(waiting) entry;
	int64_t deadline_ms;
	uint32_t channel;
	const struct target *target;
};

struct relay {
	struct loop loop;
	struct mux *mux;
	struct watch signals;
	bool terminated;
	LIST_HEAD(, waiting) waiting;
	unsigned int waiting_count;
	size_t count;
	struct target targets[TARGETS_MAX];
};

static void waiting_free(struct waiting *waiting)
{
	loop_disarm(&waiting->relay->loop, &waiting->retry);
	LIST_REMOVE(waiting, entry);
	waiting->relay->waiting_count--;
	free(waiting);
}

static void try_again(struct loop *loop, struct timer *timer)
{
	struct waiting *waiting = container_of(timer, struct waiting, retry);
	struct mux *mux = waiting->relay->mux;
	int fd = mux_asked(mux, waiting->channel) ? target_connect(loop, waiting->target) : -ECANCELED;

	if (fd == -EAGAIN && now_ms() < waiting->deadline_ms) {
		loop_arm(loop, timer, RETRY_MS, try_again);
		return;
	}
	(void)mux_answer(mux, waiting->channel, fd);
	waiting_free(waiting);
}

static int wait_for_room(struct relay *relay, const struct target *target, uint32_t channel)
{
	struct waiting *waiting = relay->waiting_count < WAITING_MAX ? calloc(1, sizeof(*waiting)) : NULL;

	if (waiting == NULL)
		return -EAGAIN;
	*waiting = (struct waiting){ .relay = relay, .channel = channel, .target = target, .deadline_ms = now_ms() + PATIENCE_MS };
	LIST_INSERT_HEAD(&relay->waiting, waiting, entry);
	relay->waiting_count++;
	loop_arm(&relay->loop, &waiting->retry, RETRY_MS, try_again);
	return -EINPROGRESS;
}

static int on_accept(void *arg, uint32_t port, uint32_t channel)
{
	struct relay *relay = arg;
	int fd;

	if (port >= relay->count)
		return -ECONNREFUSED;
	fd = target_connect(&relay->loop, &relay->targets[port]);
	return fd == -EAGAIN ? wait_for_room(relay, &relay->targets[port], channel) : fd;
}

static void on_down(void *arg, int error)
{
	struct relay *relay = arg;

	(void)error;
	relay->loop.stop = true;
}

static const struct mux_ops relay_ops = { .accept = on_accept, .down = on_down };

static void signal_event(struct loop *loop, struct watch *watch, uint32_t events)
{
	struct relay *relay = container_of(watch, struct relay, signals);

	(void)events;
	relay->terminated = true;
	loop->stop = true;
}

static void drop_waiting(struct relay *relay)
{
	struct waiting *waiting;

	while ((waiting = LIST_FIRST(&relay->waiting)) != NULL)
		waiting_free(waiting);
}

static int relay_run(struct relay *relay)
{
	int term = resident_signals();
	int ret = term < 0 ? term : loop_init(&relay->loop);

	if (ret < 0)
		return ret;
	relay->mux = mux_new(&relay->loop, &relay_ops, relay);
	if (relay->mux == NULL)
		return -ENOMEM;
	ret = loop_add(&relay->loop, &relay->signals, term, EPOLLIN, signal_event);
	if (ret == 0)
		ret = mux_attach(relay->mux, RESIDENT_FD);
	if (ret == 0)
		ret = loop_run(&relay->loop);
	drop_waiting(relay);
	/* What the guest had said before its end is still delivered. */
	while (ret == 0 && !relay->terminated && mux_channels(relay->mux) > 0)
		ret = loop_once(&relay->loop, -1);
	return ret;
}

static int usage(void)
{
	fputs("usage: runv-relay --link-fd N [--label TEXT] TARGET...\n"
	      "TARGET: stream:/PATH, seqpacket:/PATH, dgram:/PATH, tcp:ADDRESS:PORT or udp:ADDRESS:PORT\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "link-fd", required_argument, NULL, 'l' },
		{ "label", required_argument, NULL, 'n' }, /* for those who read ps */
		{ 0 },
	};
	struct relay relay = { .loop.epfd = -1 };
	int link_fd = -1, option, ret;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			link_fd = resident_fd_argument(optarg);
		else if (option != 'n')
			return 2;
	}
	if (link_fd < 0 || optind == argc || argc - optind > TARGETS_MAX)
		return usage();
	for (; optind < argc; optind++)
		if (target_parse(argv[optind], &relay.targets[relay.count++]) < 0)
			return usage();
	LIST_INIT(&relay.waiting);
	prctl(PR_SET_NAME, "runv-relay");
	resident_file_limit(FILES_WANTED);
	ret = resident_detach(&link_fd, 1);
	if (ret == 0)
		ret = relay_run(&relay);
	mux_free(relay.mux);
	loop_fini(&relay.loop);
	return ret == 0 ? 0 : 1;
}
