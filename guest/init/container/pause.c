/* SPDX-License-Identifier: Apache-2.0 */
#include "pause.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

_Noreturn void pause_main(void)
{
	sigset_t ends;
	int number;

	/* Of what is ignored the kernel keeps no zombies. */
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_NAME, "pause");
	/* The socket to PID 1 among them: that it closes says that the container runs. */
	close_range(3, ~0U, 0);
	/* Blocked: for the first process of a pid namespace the kernel drops all others that have no handler. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	while (sigwait(&ends, &number) != 0)
		;
	_exit(0);
}
