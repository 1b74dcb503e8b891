"""The table of the OCI command: every command with its flags, arguments and help. Parsing, help, completion and man pages all read it.

Spelled as runc spells them; crun's additions where engines use them. Data only.
"""


class Flag:
    """One flag. ``kind``: ``switch``, ``text``, ``number`` or ``list`` (may be repeated)."""

    __slots__ = ("help", "kind", "name", "short")

    def __init__(self, name: str, kind: str, help: str, short: str = "") -> None:  # noqa: A002 - what it is called in the table
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short


class Command:
    """One command. It takes ``least`` to ``most`` arguments (-1: any number); with ``rest`` flags end at the first argument."""

    __slots__ = ("arguments", "details", "flags", "least", "most", "name", "rest", "summary")

    def __init__(
        self,
        name: str,
        summary: str,
        arguments: str,
        least: int,
        most: int,
        flags: tuple[Flag, ...] = (),
        *,
        rest: bool = False,
        details: str = "",
    ) -> None:
        self.name = name
        self.summary = summary
        self.arguments = arguments
        self.least = least
        self.most = most
        self.flags = flags
        self.rest = rest
        self.details = details


GLOBAL = (
    Flag("root", "text", "folder for the state of containers (default: /run/runv)"),
    Flag("log", "text", "write messages to this file instead of stderr"),
    Flag("log-format", "text", "format of messages: text or json"),
    Flag("debug", "switch", "more messages"),
    Flag("systemd-cgroup", "switch", "read cgroupsPath as slice:prefix:name"),
    Flag("cgroup-manager", "text", "cgroupfs, systemd or disabled (as crun has it)"),
    Flag("rootless", "text", "accepted for runc's callers; has no effect"),
    Flag("version", "switch", "print the version", "v"),
    Flag("help", "switch", "show help", "h"),
)

_BUNDLE = Flag("bundle", "text", "folder with config.json and the root file system (default: the current folder)", "b")
_CONSOLE = Flag("console-socket", "text", "unix socket that is to receive the terminal's master")
_PID_FILE = Flag("pid-file", "text", "file to write the process id to")
_NO_PIVOT = Flag("no-pivot", "switch", "accepted for runc's callers; the guest always pivots")
_NO_KEYRING = Flag("no-new-keyring", "switch", "accepted for runc's callers; the guest's keyrings are its own")
_PRESERVE = Flag("preserve-fds", "number", "must be 0: descriptors cannot enter a virtual machine")
_DETACH = Flag("detach", "switch", "do not wait for the process to end", "d")
_FORMAT = Flag("format", "text", "table or json", "f")

_IMAGE = Flag("image-path", "text", "folder of the checkpoint (default: ./checkpoint)")
# CRIU's, as far as runc hands them on.
_CRIU = (
    Flag("work-path", "text", "accepted for runc's callers; there are no working files"), Flag("tcp-established", "switch", "accepted for runc's callers; connections are in the machine"),
    Flag("ext-unix-sk", "switch", "accepted for runc's callers; sockets are in the machine"), Flag("shell-job", "switch", "accepted for runc's callers; sessions are in the machine"),
    Flag("file-locks", "switch", "accepted for runc's callers; locks are in the machine"), Flag("manage-cgroups-mode", "text", "accepted for runc's callers; the container's cgroups are in the machine"),
    Flag("empty-ns", "list", "accepted for runc's callers; the network is that of the bundle's namespace"), Flag("lazy-pages", "switch", "refused: a machine is restored whole"),
    Flag("auto-dedup", "switch", "refused: there are no parent images"),
)  # fmt: skip

_MACHINE = Flag("vm", "switch", "the whole virtual machine, with all containers of the pod")

_CREATE = (_BUNDLE, _CONSOLE, _PID_FILE, _NO_PIVOT, _NO_KEYRING, _PRESERVE)

COMMANDS = (
    Command("create", "create a container", "CONTAINER", 1, 1, _CREATE, details="Boots a virtual machine for the bundle, or joins its pod's, and prepares everything but the program, which `start` lets run."),
    Command("start", "run the program of a created container", "CONTAINER", 1, 1),
    Command("run", "create and start a container", "CONTAINER", 1, 1, (*_CREATE, _DETACH, Flag("keep", "switch", "do not delete the container when it has ended"), Flag("no-subreaper", "switch", "accepted for runc's callers"))),
    Command("state", "show the state of a container as JSON", "CONTAINER", 1, 1),
    Command("kill", "send a signal to a container", "CONTAINER [SIGNAL]", 1, 2, (Flag("all", "switch", "to all its processes", "a"),), rest=True, details="SIGNAL is a number or a name, with or without SIG; TERM when left out."),
    Command("delete", "remove a container", "CONTAINER", 1, 1, (Flag("force", "switch", "kill it first; fine when there is none", "f"),)),
    Command("exec", "run another process in a container", "CONTAINER COMMAND [ARGUMENT...]", 1, -1, (
        _CONSOLE, Flag("cwd", "text", "working directory"), Flag("env", "list", "environment variable NAME=VALUE", "e"),
        Flag("tty", "switch", "give it a terminal", "t"), Flag("user", "text", "user and group ids: UID[:GID]", "u"),
        Flag("additional-gids", "list", "additional group id", "g"), Flag("process", "text", "file with the process as JSON", "p"),
        _DETACH, _PID_FILE, Flag("process-label", "text", "accepted for runc's callers"), Flag("apparmor", "text", "accepted for runc's callers"),
        Flag("no-new-privs", "switch", "set no_new_privs"), Flag("cap", "list", "add a capability", "c"), _PRESERVE,
        Flag("cgroup", "list", "accepted for runc's callers"), Flag("ignore-paused", "switch", "also in a paused container; waits until it is resumed"),
    ), rest=True),
    Command("pause", "stop the processes of a container where they are", "CONTAINER", 1, 1, (_MACHINE,)),
    Command("resume", "let a paused container go on", "CONTAINER", 1, 1, (_MACHINE,)),
    Command("update", "change the limits of a container, or the size of its machine", "CONTAINER", 1, 1, (
        Flag("resources", "text", "file with linux.resources as JSON, - for standard input; other flags are not looked at then", "r"),
        Flag("blkio-weight", "text", "weight of block I/O, 10 to 1000"), Flag("cpu-period", "text", "period of the CPU quota in microseconds"),
        Flag("cpu-quota", "text", "CPU time in each period in microseconds; -1: no limit"), Flag("cpu-share", "text", "weight of CPU time"),
        Flag("cpu-rt-period", "text", "must be 0: a guest has no real-time limits"), Flag("cpu-rt-runtime", "text", "must be 0: a guest has no real-time limits"),
        Flag("cpuset-cpus", "text", "the host's CPUs to use"), Flag("cpuset-mems", "text", "the host's memory nodes to use"),
        Flag("memory", "text", "memory in bytes, or with a unit as in 512M; -1: no limit"), Flag("memory-reservation", "text", "memory that is kept when it gets scarce"),
        Flag("memory-swap", "text", "memory and swap together; -1: no limit"), Flag("pids-limit", "text", "number of processes; -1: no limit"),
        Flag("l3-cache-schema", "text", "must be empty: Intel RDT does not reach into a machine"), Flag("mem-bw-schema", "text", "must be empty: Intel RDT does not reach into a machine"),
        Flag("vm", "switch", "change the machine that the container lives in: --memory and --vcpus are its size"), Flag("vcpus", "text", "with --vm: number of virtual CPUs"),
    ), details="Changes only what is given. A machine grows with the limits of its containers as far as it may, which is settled when it is made (memory_max_mib, vcpus_max); a limit beyond that is refused, but for a machine that does not grow at all, where it is set with a warning. "
               "With --vm memory goes down to what the machine was started with; what its kernel cannot empty at once stays for now."),
    Command("events", "print statistics and out-of-memory kills of a container as JSON, until it ends", "CONTAINER", 1, 1, (
        Flag("interval", "text", "time between two statistics, as in 500ms or 1m30s (default: 5s)"), Flag("stats", "switch", "print the statistics once"),
    ), details="What is counted is counted in the guest, in the container's cgroup there."),
    Command("checkpoint", "save the sandbox of a container, and end it", "CONTAINER", 1, 1, (
        _IMAGE, Flag("leave-running", "switch", "let it go on"), *_CRIU,
        Flag("parent-path", "text", "refused: a machine is saved whole"), Flag("pre-dump", "switch", "refused: a machine is saved at once"), Flag("page-server", "text", "refused: a machine is saved to a folder"),
        Flag("status-fd", "text", "refused: there are no pages to be fetched later"), Flag("tcp-skip-in-flight", "switch", "accepted for runc's callers; connections are in the machine"),
        Flag("link-remap", "switch", "accepted for runc's callers; files that were removed are in the machine"),
    ), details="Saves the whole virtual machine, with all containers of the pod, its memory and the disks that it writes to. All of them end, and CONTAINER is deleted, as by runc. A machine that has files of the host mounted cannot be saved: its roots must be on disks."),
    Command("restore", "let a container that was saved go on", "CONTAINER", 1, 1, (
        _IMAGE, _BUNDLE, _CONSOLE, _PID_FILE, _DETACH, *_CRIU, Flag("from", "text", "which of the containers in the checkpoint (default: CONTAINER, or the only one)"),
        Flag("member", "list", "ID=FOLDER: the bundle of another container of the pod, where its disks have moved"), Flag("keep", "switch", "do not delete the container when it has ended"),
        Flag("no-subreaper", "switch", "accepted for runc's callers"), _NO_PIVOT, Flag("lsm-profile", "text", "refused: the guest has no such profiles"), Flag("lsm-mount-context", "text", "refused: the guest has no such labels"),
    ), details="The bundle says where the disks are to be, and the network. The other containers of a pod go on as well; each is restored by a call of its own, with a bundle that joins the sandbox, which gives it its streams."),
    Command("list", "list containers", "", 0, 0, (_FORMAT, Flag("quiet", "switch", "ids only", "q"))),
    Command("ps", "show the processes of a container", "CONTAINER", 1, -1, (_FORMAT,), rest=True, details="The table shows the guest's processes; `--format json` the host's process ids that stand for them. Arguments after CONTAINER, meant for the host's ps, are accepted and not used."),
    Command("spec", "write a config.json to start from", "", 0, 0, (_BUNDLE, Flag("rootless", "switch", "accepted for runc's callers"))),
    Command("features", "show what this runtime can do, as JSON", "", 0, 0),
    Command("archive", "copy files into and out of a container as a tar archive", "get|put|diff CONTAINER [PATH]", 2, 3,
            details="get writes the file or directory at PATH, put extracts standard input in the directory PATH, and diff writes all that the container has "
                    "changed, as a layer of an image. It needs nothing in the container. It ends with status 2 where PATH is not there."),
    Command("volume", "attach disks to a running container, and detach, resize or copy them", "attach|detach|resize|snapshot|tidy|list CONTAINER [IMAGE] [DESTINATION|SIZE|TARGET]", 2, 4, (
        Flag("type", "text", "with attach: the file system (default: what is on the disk)", "t"), Flag("option", "list", "with attach: words as of a mount in config.json", "o"), _FORMAT,
    ), details="attach CONTAINER IMAGE DESTINATION mounts the file system of an image file or block device, detach CONTAINER DESTINATION takes it away again. resize CONTAINER IMAGE SIZE lets a disk and its ext4 or XFS grow. snapshot CONTAINER "
               "IMAGE TARGET makes a new raw file of what is on the disk at the moment; the container goes on. tidy CONTAINER takes back what a command that was killed has begun."),
    Command("interface", "show and change the network cards of a running sandbox", "list|add|rm|update|sync CONTAINER [INTERFACE]", 2, 3, (
        Flag("host-device", "text", "with add: a device of the host's that becomes INTERFACE, or a bridge that a new one is connected to"),
        Flag("address", "list", "with add and update: an address to have, as 10.0.0.2/24"), Flag("remove-address", "list", "with update: an address to lose"),
        Flag("mtu", "number", "with add and update"), Flag("mac", "text", "with add and update: the link's address"), _FORMAT,
    ), details="`add` brings the link INTERFACE of the sandbox's network namespace into the guest, as `start` does with those it finds. What is changed is changed in the namespace as well. `sync` brings all that has changed there into the guest; it is run by itself when something has."),
    Command("factory", "make, list or remove templates, booted machines that sandboxes start as copies of, and keep machines that wait", "init|translate|keep|list|status|serve|destroy [CONTAINER]", 1, 2, (
        Flag("nics", "number", "with init: how many network cards the sandboxes have (default: none)"), _FORMAT,
    ), details="Templates are made when a sandbox of a new shape is started; `init` makes one before. `translate` keeps what an emulated processor makes of the guest's code, for all machines that follow (with the QEMU of `make qemu` only); `init` does so too, and the first `create` has it done in the background. `keep` does so with what the machine of CONTAINER has translated, which was created with the setting tcg_keep = record; it stands still then, and is to be deleted. `status` ends with 1 when there is none for a sandbox of the default size. Clones share memory with their template, so what one tenant's guest has in its caches another may time: set template to off where that matters. "
               "`serve` keeps machines waiting (settings pool_size, pool_memory_mib, vcpus, memory_mib), of which `create` takes one that fits, until SIGTERM; it then removes them. `destroy` removes templates and machines."),
    Command("completion", "print the completion script of a shell", "bash|zsh|fish", 1, 1, details="For this shell: `source <(runv completion bash)`. An installation brings all three where the shells look for them."),
    Command("config", "show runv's settings and where each comes from", "", 0, 0, (_FORMAT,)),
    Command("check", "say whether this host can run containers, and what will be used", "", 0, 0, (_FORMAT,)),
)  # fmt: skip
