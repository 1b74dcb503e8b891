/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init: PID 1 of the guest.
 *
 *	init                                       as the kernel starts it
 *	init --test-link FD [--test-share DIR]     in namespaces of a developer's machine: FD is the serial link
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent.h"
#include "boot.h"
#include "cgroup.h"
#include "cleanup.h"
#include "listen.h"
#include "net.h"
#include "signals.h"

struct options {
	int test_link; /* -1: not a test */
	const char *test_share;
};

/* To the kernel's log: it has the time, is bounded, and is what the host's console shows. */
void agent_log(const struct agent *agent, const char *format, ...)
{
	char line[512];
	va_list args;
	int n = snprintf(line, sizeof(line), "runv: ");

	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args);
	va_end(args);
	strcat(line, "\n");
	if (agent->log_fd >= 0)
		(void)!write(agent->log_fd, line, strlen(line));
}

static int parse_options(int argc, char **argv, struct options *options)
{
	*options = (struct options){ .test_link = -1 };
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--test-link") == 0)
			options->test_link = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--test-share") == 0)
			options->test_share = argv[i + 1];
		else
			return -1;
	}
	return 0;
}

/* Descriptors 0 to 2 are taken, so that nothing else ever gets these numbers: a child's standard streams are put there. */
static void take_stdio(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

/* As systemd does: the kernel's own ceiling is below what engines ask for. */
static int raise_ceiling_of_files(struct error *error)
{
	static const char most[] = "1073741816";
	cleanup_close int fd = open("/proc/sys/fs/nr_open", O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, most, sizeof(most) - 1) < 0 ? error_sys(error, errno, "cannot set fs.nr_open") : 0;
}

static void raise_limits(void)
{
	struct rlimit now, files = { .rlim_cur = 65536, .rlim_max = 524288 };

	if (setrlimit(RLIMIT_NOFILE, &files) == 0 || getrlimit(RLIMIT_NOFILE, &now) < 0)
		return;
	now.rlim_cur = now.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &now);
}

static enum transport read_transport(void)
{
	char line[4096] = "", *rest = line;
	cleanup_file FILE *file = fopen("/proc/cmdline", "re");
	enum transport transport = TRANSPORT_SERIAL;

	if (!file || !fgets(line, sizeof(line), file))
		return transport;
	for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
		if (strcmp(word, "runv.transport=vsock") == 0)
			transport = TRANSPORT_VSOCK;
		else if (strcmp(word, "runv.transport=serial") == 0)
			transport = TRANSPORT_SERIAL;
	}
	return transport;
}

static int prepare(struct agent *agent, const struct options *options, struct error *error)
{
	int result;

	agent->test = options->test_link >= 0;
	agent->link_fd = options->test_link;
	agent->log_fd = agent->test ? fcntl(2, F_DUPFD_CLOEXEC, 10) : -1;
	agent->signals.fd = agent->uevents.fd = agent->listeners[0].fd = agent->listeners[1].fd = -1;
	if (agent->test)
		fcntl(agent->link_fd, F_SETFD, FD_CLOEXEC), fcntl(agent->link_fd, F_SETFL, O_NONBLOCK);
	if (boot_mounts(agent->test, options->test_share, error) < 0)
		return -1;
	/* It reads from /dev/urandom: else each clone would, with its first object. */
	json_object_seed(0);
	take_stdio();
	if (!agent->test && raise_ceiling_of_files(error) < 0)
		return -1;
	raise_limits();
	if (!agent->test)
		agent->log_fd = open("/dev/kmsg", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	agent->transport = agent->test ? TRANSPORT_TEST : read_transport();
	agent->spare_cgroup = cgroup_init(error);
	if (agent->spare_cgroup < 0 || net_boot(error) < 0)
		return -1;
	device_filters_keep(agent->device_filters);
	result = loop_init(&agent->loop);
	if (result < 0)
		return error_sys(error, -result, "cannot make the event loop");
	return signals_init(agent, error) < 0 ? -1 : listen_init(agent, error);
}

int main(int argc, char **argv)
{
	struct agent agent = { 0 };
	struct options options;
	struct error error;

	if (getpid() != 1 || parse_options(argc, argv, &options) < 0) {
		fprintf(stderr, "This is the first process of a runv guest, and nothing to be started by hand.\n");
		return 2;
	}
	if (prepare(&agent, &options, &error) < 0) {
		int console = agent.log_fd >= 0 ? -1 : open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

		agent.log_fd = agent.log_fd >= 0 ? agent.log_fd : console;
		agent_log(&agent, "%s", error.text);
		return 1;
	}
	agent_log(&agent, "listening");
	/*
	 * From here on PID 1 does not end, whatever happens: that would be a panic, and the end of every container of the sandbox.
	 */
	for (;;) {
		int result = loop_once(&agent.loop, -1);

		if (result < 0) {
			agent_log(&agent, "the event loop failed: %s", strerror(-result));
			usleep(100000);
		}
	}
}
