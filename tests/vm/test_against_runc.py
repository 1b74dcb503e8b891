"""The same bundle, driven by runc and by runv: the same output, the same status, the same answers."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .harness import DEADLINE_S, Bundle, Created, Done, Runtime, console_socket, new_id, on_terminal, wait_until

pytestmark = pytest.mark.vm

Both = Callable[[Callable[[Runtime], Any]], Any]


@pytest.fixture
def both(runc: Runtime, runv: Runtime) -> Both:
    """Does something with each; what is observed must be equal, and is returned."""

    def observe(scenario: Callable[[Runtime], Any]) -> Any:
        theirs, ours = scenario(runc), scenario(runv)
        assert ours == theirs
        return ours

    return observe


def seen(done: Done) -> tuple[int, str, str]:
    return done.code, done.out, done.err


# --- run in the foreground ---


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_run_ends_with_the_status_of_the_process(both: Both, bundle: Bundle, script: str, code: int) -> None:
    # As a child: the first process of a pid namespace cannot be killed from inside.
    bundle.script(f"sh -c '{script}'; exit $?")
    assert both(lambda runtime: seen(runtime.run_bundle(bundle)))[0] == code


def test_run_ends_with_128_and_the_signal_that_killed_the_first_process(both: Both, bundle: Bundle) -> None:
    bundle.args("sleep", "100")

    def killed(runtime: Runtime) -> int:
        container = new_id()
        process = runtime.popen("run", "--bundle", str(bundle.path), container, stdin=subprocess.DEVNULL)
        wait_until(lambda: b'"running"' in runtime.run("state", container).stdout, "the container")
        runtime.run("kill", container, "KILL").ok()
        return process.wait(DEADLINE_S)

    assert both(killed) == 137


def test_streams_environment_directory_and_user(both: Both, bundle: Bundle) -> None:
    bundle.script(
        'echo "out $PWD $WORD"; echo err >&2; id; touch /tmp/mine; stat -c "%a %u:%g" /tmp/mine; umask; pwd',
        cwd="/home/alice",
        env=["PATH=/bin", "WORD=two  words", "HOME=/x"],
        user={"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027},
    )

    def ran(runtime: Runtime) -> tuple[int, str, str]:
        done = runtime.run_bundle(bundle)
        (bundle.rootfs / "tmp/mine").unlink()
        return seen(done)

    code, out, err = both(ran)
    assert code == 0 and err == "err\n" and out.startswith("out /home/alice two  words\nuid=1000")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["no-such-program"], "executable file not found"),
        (["/no/such/program"], "no such file or directory"),
        (["/etc/not-executable"], "permission denied"),
        (["/etc"], ""),
    ],
)
def test_a_program_that_cannot_be_executed(both: Both, bundle: Bundle, args: list[str], text: str) -> None:
    bundle.args(*args)

    def failed(runtime: Runtime) -> tuple[int, str, bool]:
        done = runtime.run_bundle(bundle)
        return done.code, done.out, text in done.err

    assert both(failed) == (1, "", True)


def test_stdin_ends_when_the_caller_closes_it(both: Both, bundle: Bundle) -> None:
    bundle.script("cat | wc -c; echo after")
    assert both(lambda runtime: seen(runtime.run_bundle(bundle, stdin=b"x" * 70000))) == (0, "70000\nafter\n", "")


# --- what a process finds inside ---

_LIMITS = "for kind in n c s; do ulimit -S$kind; ulimit -H$kind; done"


def test_capabilities_limits_and_privileges(both: Both, bundle: Bundle) -> None:
    sets = {
        name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    }
    bundle.script(
        f"grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; {_LIMITS}",
        capabilities=sets | {"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYS_CHROOT"]},
        noNewPrivileges=True,
        rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 22},
        ],
    )
    code, out, _ = both(lambda runtime: seen(runtime.run_bundle(bundle)))
    assert code == 0 and "CapEff:\t0000000000000021" in out and "NoNewPrivs:\t1" in out and "\n100\n200\n" in out


def test_a_user_without_no_new_privileges(both: Both, bundle: Bundle) -> None:
    bundle.script(
        "grep -E '^(Cap|NoNewPrivs)' /proc/self/status", user={"uid": 1000, "gid": 1000}, noNewPrivileges=False
    )
    assert both(lambda runtime: seen(runtime.run_bundle(bundle)))[0] == 0


def test_hostname_masked_and_read_only_paths(both: Both, bundle: Bundle) -> None:
    bundle.config["hostname"] = "the-box"
    bundle.config["root"]["readonly"] = True
    bundle.linux["maskedPaths"] = ["/etc/passwd", "/home", "/no-such-path"]
    bundle.linux["readonlyPaths"] = ["/proc/sys", "/no-such-path"]
    bundle.script(
        "hostname; touch /file; wc -c </etc/passwd; ls /home | wc -l; echo 1 >/proc/sys/vm/drop_caches; touch /dev/shm/a && echo shm"
    )
    code, out, err = both(lambda runtime: seen(runtime.run_bundle(bundle)))
    assert out == "the-box\n0\n0\nshm\n" and err.count("Read-only file system") == 2 and code == 0


def test_seccomp(both: Both, bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    bundle.script("mkdir /tmp/a; echo $?; grep Seccomp: /proc/self/status; touch /tmp/b; rm /tmp/b")
    assert "Seccomp:\t2" in both(lambda runtime: seen(runtime.run_bundle(bundle)))[1]


def test_tmpfs(both: Both, bundle: Bundle) -> None:
    bundle.mount("/mnt/new", "tmpfs", "tmpfs", "nosuid", "nodev", "size=1m", "mode=0711")
    bundle.script("stat -c %a /mnt/new; df -k /mnt/new | tail -1 | awk '{print $2}'; touch /mnt/new/x; ls /mnt/new")
    assert both(lambda runtime: seen(runtime.run_bundle(bundle))) == (0, "711\n1024\nx\n", "")


def test_bind_mounts_show_changes_on_both_sides(both: Both, bundle: Bundle, folder: Path) -> None:
    for name in ("rw", "ro"):
        (folder / name).mkdir()
        bundle.mount(f"/mnt/{name}", str(folder / name), "bind", "rbind", name)
        (folder / f"{name}.txt").write_text("before\n")
        bundle.mount(f"/etc/{name}.txt", str(folder / f"{name}.txt"), "bind", "bind", name)
    bundle.args("sleep", "1000")

    def used(runtime: Runtime) -> list[object]:
        for name in ("rw.txt", "ro.txt"):
            (folder / name).write_text("before\n")
        container = runtime.start(bundle)
        script = """
            echo inside >/mnt/rw/file; echo inside >/mnt/ro/file
            cat /etc/rw.txt /etc/ro.txt
            echo inside >>/etc/rw.txt; echo inside >>/etc/ro.txt
        """
        facts: list[object] = [seen(container.exec("sh", "-c", script))]
        facts.append((folder / "rw/file").read_text())
        facts.append([(folder / name).read_text() for name in ("rw.txt", "ro.txt")])
        for name in ("rw", "ro"):
            (folder / name / "later").write_text("outside\n")
            with (folder / f"{name}.txt").open("a") as file:
                file.write("outside\n")
        facts.append(seen(container.exec("sh", "-c", "cat /mnt/r?/later /etc/rw.txt /etc/ro.txt; ls /mnt/ro /mnt/rw")))
        container.delete()
        for path in (*folder.glob("r?/*"), *bundle.rootfs.glob("mnt/*/*")):
            path.unlink()
        return facts

    facts = both(used)
    assert facts[1:3] == ["inside\n", ["before\ninside\n", "before\n"]]


# --- the life of a container, step by step ---


def _json_state(runtime: Runtime, container: str) -> dict[str, Any]:
    """Without what must differ: ids, times, places; of the version runc gives its own."""
    state = runtime.state(container)
    for name in ("id", "created", "ociVersion"):
        assert state.pop(name)
    state["pid"] = state["pid"] > 0
    return state


def _refused(done: Done) -> tuple[int, str, bool]:
    return done.code, done.out, bool(done.err)


def test_the_life_of_a_container(both: Both, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.word": "value"}
    bundle.script("trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done")

    def life(runtime: Runtime) -> list[object]:
        facts: list[object] = []
        container = runtime.create(bundle)
        facts.append(_json_state(runtime, container.id))
        facts.append(container.output())
        container.start()
        container.wait_output(b"ready")
        facts.append(_json_state(runtime, container.id))
        assert runtime.state(container.id)["pid"] == container.pid
        facts.append(_refused(runtime.run("start", container.id)))
        facts.append(_refused(runtime.run("delete", container.id)))
        facts.append(_refused(runtime.run("create", "--bundle", str(bundle.path), container.id)))
        facts.append(seen(container.exec("sh", "-c", "echo out; echo err >&2; exit 9")))
        facts.append(container.exec("no-such-program").code)
        facts.append(container.exec("/etc/not-executable").code)
        facts.append(seen(container.exec("cat", stdin=b"in and out")))
        facts.append(_refused(runtime.run("kill", container.id, "NOSUCH")))
        facts.append(seen(container.kill("TERM")))
        facts.append(container.wait())
        facts.append(container.output())
        facts.append(_json_state(runtime, container.id))
        facts.append(_refused(container.kill("TERM")))
        facts.append(_refused(container.exec("true")))
        facts.append(_refused(runtime.run("start", container.id)))
        facts.append(seen(runtime.run("delete", container.id)))
        facts.append(_refused(runtime.run("state", container.id)))
        facts.append(_refused(runtime.run("delete", container.id)))
        facts.append(seen(runtime.run("delete", "--force", container.id)))
        return facts

    facts = both(life)
    assert facts[0]["status"] == "created" and facts[2]["status"] == "running"
    assert (facts[7], facts[12]) == (255, 7)


def test_the_wait_status_of_a_killed_container(both: Both, bundle: Bundle) -> None:
    bundle.args("sleep", "1000")

    def killed(runtime: Runtime) -> int:
        container = runtime.start(bundle)
        container.kill("KILL").ok()
        status = container.wait_status()
        runtime.run("delete", container.id).ok()
        return status

    both(killed)


def test_delete_of_a_created_container(both: Both, bundle: Bundle) -> None:
    def deleted(runtime: Runtime) -> tuple[int, str, str]:
        return seen(runtime.run("delete", runtime.create(bundle).id))

    assert both(deleted) == (0, "", "")


@pytest.mark.parametrize("container", ["a/b", "..", "", "a b", "@x"])
def test_invalid_ids(both: Both, bundle: Bundle, container: str) -> None:
    assert both(lambda runtime: _refused(runtime.run("create", "--bundle", str(bundle.path), container)))[0] == 1


def test_exec_options(both: Both, bundle: Bundle, folder: Path) -> None:
    bundle.args("sleep", "1000")
    process = folder / "process.json"
    process.write_text(
        json.dumps(
            {"args": ["sh", "-c", "id -u; pwd; env"], "cwd": "/tmp", "env": ["PATH=/bin"], "user": {"uid": 5, "gid": 5}}
        )
    )

    def executed(runtime: Runtime) -> list[object]:
        container = runtime.start(bundle)
        flags = ["--cwd", "/tmp", "--env", "A=1", "--env", "B=2 3", "--user", "1000:1001", "--additional-gids", "7"]
        facts: list[object] = [
            seen(runtime.run("exec", *flags, container.id, "sh", "-c", "pwd; echo $A $B; id")),
            seen(runtime.run("exec", "--cap", "CAP_SYS_ADMIN", container.id, "grep", "Cap", "/proc/self/status")),
            seen(runtime.run("exec", "--process", str(process), container.id)),
            runtime.run("exec", container.id).code,
            seen(container.exec("sh", "-c", "kill -KILL $$")),
        ]
        pid_file = folder / "exec.pid"
        detached = runtime.run("exec", "--detach", "--pid-file", str(pid_file), container.id, "sh", "-c", "exit 5")
        facts.append(detached.code)
        _, status = os.waitpid(int(pid_file.read_text()), 0)
        facts.append(os.waitstatus_to_exitcode(status))
        container.delete()
        return facts

    assert both(executed)[-1] == 5


def test_list_and_ps(both: Both, bundle: Bundle) -> None:
    bundle.args("sleep", "1000")

    def listed(runtime: Runtime) -> list[object]:
        empty = [seen(runtime.run("list", *flags)) for flags in ([], ["-q"], ["-f", "json"])]
        container = runtime.start(bundle)
        table = runtime.run("list").ok().lines
        row = table[1].split()
        assert row[:2] == [container.id, str(container.pid)]
        (entry,) = json.loads(runtime.run("list", "-f", "json").ok().stdout)
        assert (entry["id"], entry["pid"]) == (container.id, container.pid)
        assert runtime.run("list", "-q").ok().out == f"{container.id}\n"
        facts: list[object] = [empty, table[0].split(), row[2:4], row[5:]]
        facts += [sorted(entry), entry["status"], entry["owner"]]
        facts.append(json.loads(runtime.run("ps", "-f", "json", container.id).ok().stdout) == [container.pid])
        processes = runtime.run("ps", container.id).ok().lines
        facts.append((len(processes), processes[-1].endswith("sleep 1000")))
        container.delete()
        return facts

    assert both(listed)[-2:] == [True, (2, True)]


def test_spec_refuses_to_overwrite(both: Both, bundle: Bundle) -> None:
    assert both(lambda runtime: _refused(runtime.run("spec", cwd=bundle.path))) == (1, "", True)


def test_errors_go_to_the_log(both: Both, folder: Path, bundle: Bundle) -> None:
    bundle.args("no-such-program")

    def logged(runtime: Runtime) -> tuple[int, str, bool]:
        log = folder / f"{runtime.name}.log"
        flags = ["--log", str(log), "--log-format", "json"]
        done = runtime.run(*flags, "run", "--bundle", str(bundle.path), new_id())
        entry = json.loads(log.read_text().splitlines()[-1])
        assert entry["time"]
        return done.code, entry["level"], "executable file not found" in entry["msg"]

    assert both(logged) == (1, "error", True)


# --- terminals ---


def test_a_terminal_over_the_console_socket(both: Both, bundle: Bundle, folder: Path) -> None:
    bundle.script("echo begun; read line; stty size; echo got $line; test -t 0 && tty; exit 4", terminal=True)

    def used(runtime: Runtime) -> tuple[int, bytes]:
        with console_socket(folder) as (path, receive):
            container = runtime.create(bundle, "--console-socket", str(path))
            terminal = receive()
            container.start()
            terminal.expect(b"begun")
            terminal.resize(33, 101)
            terminal.write(b"hello\n")
            code = container.wait()
            said = terminal.read_all()
            container.delete()
            return code, said

    code, said = both(used)
    assert code == 4 and b"33 101" in said and b"got hello" in said and b"/dev/" in said


def test_run_on_a_terminal(both: Both, bundle: Bundle) -> None:
    bundle.script("stty size; echo begun; read line; echo got $line; exit 6", terminal=True)

    def used(runtime: Runtime) -> tuple[int, bool]:
        with on_terminal(runtime, "run", "--bundle", str(bundle.path), new_id()) as (process, terminal):
            terminal.expect(b"begun")
            terminal.write(b"word\r")
            terminal.expect(b"got word")
            code = process.wait(DEADLINE_S)
            # runc sizes a terminal when its process runs already, so there the first size is anybody's guess.
            assert b"24 80" in terminal.seen or runtime.name == "runc"
            return code, b"\r\n" in terminal.seen

    assert both(used) == (6, True)


def test_exec_on_a_terminal_follows_its_size(both: Both, bundle: Bundle) -> None:
    bundle.args("sleep", "1000")
    script = "trap 'stty size; exit 8' WINCH; stty size; echo begun; while :; do sleep 0.05; done"

    def used(runtime: Runtime) -> int:
        container: Created = runtime.start(bundle)
        with on_terminal(runtime, "exec", "-t", container.id, "sh", "-c", script) as (process, terminal):
            terminal.expect(b"begun")
            assert b"24 80" in terminal.seen or runtime.name == "runc"
            terminal.resize(30, 90)
            os.kill(process.pid, signal.SIGWINCH)
            terminal.expect(b"30 90")
            code = process.wait(DEADLINE_S)
        container.delete()
        return code

    assert both(used) == 8


def test_special_files(both: Both, bundle: Bundle) -> None:
    bundle.script(
        """
        umask 0
        mkfifo /tmp/fifo && mknod /tmp/null c 1 3 && mknod /tmp/loop b 7 0 || exit
        chmod 640 /tmp/fifo && chmod 604 /tmp/null && chown 1000:5 /tmp/null
        (echo through > /tmp/fifo &); cat /tmp/fifo; ls -ln /tmp | cut -c 1-50
        """
    )
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name] += ["CAP_MKNOD", "CAP_CHOWN"]
    bundle.save()

    def made(runtime: Runtime) -> tuple[Any, list[tuple[str, int, int, int]]]:
        done = runtime.run_bundle(bundle)
        found = []
        for path in sorted((bundle.rootfs / "tmp").iterdir()):
            status = path.stat()
            found.append((path.name, status.st_mode, status.st_uid, status.st_rdev))
            path.unlink()
        return seen(done), found

    (code, out, _), on_host = both(made)
    assert code == 0 and out.startswith("through\n")
    assert [stat.filemode(mode) for _, mode, _, _ in on_host] == ["prw-r-----", "brw-rw-rw-", "crw----r--"]
