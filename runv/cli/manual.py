"""The manual: a page for runv and one for each command, made of the table in ``options`` and that of ``runv.settings``. Pure: roff as man(7) has it."""

from runv import OCI_VERSION, VERSION
from runv.cli.about import ABOUT, EXAMPLES
from runv.cli.options import COMMANDS, GLOBAL, Command, Flag
from runv.settings import CONFIG_PATH, SETTINGS, Setting

SECTION = 8

_DESCRIPTION = """\
runv is an OCI runtime: it runs containers as bundles describe them, and is called as runc is, by Docker, Podman, containerd or by hand. Each container, or
each pod of containers, has a virtual machine of its own with a kernel of its own; inside it a container is as confined as runc would confine it on the host.

A container that names another one's namespaces, or its sandbox by the annotations of containerd or CRI-O, joins that one's machine.

Options before the command are runv's own, those after it the command's. After the first argument of exec, kill and ps nothing is taken for an option."""

_ANNOTATIONS = (
    ("run.runv.memory_mib", "Memory of the machine in MiB, whatever the limits of its containers are."),
    ("run.runv.vcpus", "Virtual CPUs of the machine."),
    ("run.runv.memory_max_mib", "Memory in MiB that the machine can grow to while it runs, and no more than the host has; 0: it does not grow."),
    ("run.runv.vcpus_max", "The same of its virtual CPUs."),
)
_FILES = (
    ("/run/runv", "The state of containers; --root names another folder."),
    (CONFIG_PATH, "Settings, in TOML; RUNV_CONFIG names another file."),
)
_STATUS = (
    ("0", "It was done."),
    ("1", "It was not, and one line on the standard error, or in the file of --log, says why."),
    ("255", "exec could not run the command."),
    ("other", "run and exec, unless detached, end as their process does: with its status, or with 128 and the number of the signal that ended it."),
)  # fmt: skip


def pages() -> dict[str, str]:
    """Every page by its file name: ``runv.8``, ``runv-create.8``, ..."""
    found = {f"runv.{SECTION}": _main()}
    for command in COMMANDS:
        found[f"runv-{command.name}.{SECTION}"] = _command(command)
    return found


def escape(text: str) -> str:
    """Text as roff is to show it: nothing of it is an escape, a dash is the one that can be typed, and no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())


def _main() -> str:
    lines = [*_head("runv", ABOUT.partition(".")[0].removeprefix("runv "))]
    lines += [".SH SYNOPSIS", ".B runv", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]", ".SH DESCRIPTION"]
    lines += _paragraphs(_DESCRIPTION)
    lines.append(".SH COMMANDS")
    for command in COMMANDS:
        lines += [".TP", f"\\fBrunv\\-{escape(command.name)}\\fR({SECTION})", escape(_sentence(command.summary))]
    lines += _options(GLOBAL)
    lines += _table("ANNOTATIONS", _ANNOTATIONS)
    lines.append(".SH SETTINGS")
    lines += _paragraphs("The environment goes before the file, and that before the default. `runv config` shows what is in force, `runv check` what follows from it.")  # fmt: skip
    for setting in SETTINGS:
        lines += _setting(setting)
    lines += _table("FILES", _FILES)
    lines += _table("EXIT STATUS", _STATUS)
    lines += [".SH EXAMPLES", ".nf", escape(EXAMPLES), ".fi"]
    lines += _paragraphs(f"It follows the OCI runtime specification {OCI_VERSION}.", heading="STANDARDS")
    return "\n".join([*lines, ".SH SEE ALSO", ".BR runc (8),", ".BR qemu\\-system\\-x86_64 (1)"]) + "\n"


def _command(command: Command) -> str:
    lines = _head(f"runv-{command.name}", command.summary)
    lines += [".SH SYNOPSIS", f".B runv {escape(command.name)}", "[\\fIoptions\\fR]" if command.flags else ""]
    if command.arguments:
        lines.append(f"\\fI{escape(command.arguments)}\\fR")
    lines.append(".SH DESCRIPTION")
    lines += _paragraphs(_sentence(command.summary) + (f"\n\n{command.details}" if command.details else ""))
    lines += _options(command.flags)
    lines += [".SH SEE ALSO", f".BR runv ({SECTION})"]
    return "\n".join(line for line in lines if line) + "\n"


def _head(name: str, summary: str) -> list[str]:
    title = f'.TH "{escape(name.upper())}" "{SECTION}" "" "runv {VERSION}"'
    return [title, ".SH NAME", f"{escape(name)} \\- {escape(summary)}"]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _paragraphs(text: str, *, heading: str = "") -> list[str]:
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    lines = [f".SH {heading}"] if heading else []
    for number, part in enumerate(parts):
        lines += [*([".PP"] if number else []), escape(part)]
    return lines


def _options(flags: tuple[Flag, ...]) -> list[str]:
    lines = [".SH OPTIONS"] if flags else []
    for flag in flags:
        names = [f"\\-{flag.short}"] if flag.short else []
        names.append(f"\\-\\-{escape(flag.name)}")
        value = "" if flag.kind == "switch" else " \\fIvalue\\fR"
        again = " May be given more than once." if flag.kind == "list" else ""
        lines += [".TP", ", ".join(f"\\fB{name}\\fR" for name in names) + value, escape(_sentence(flag.help) + again)]
    return lines


def _table(heading: str, rows: tuple[tuple[str, str], ...]) -> list[str]:
    lines = [f".SH {heading}"]
    for name, text in rows:
        lines += [".TP", f"\\fB{escape(name)}\\fR", escape(text)]
    return lines


def _setting(setting: Setting) -> list[str]:
    text = _sentence(setting.help)
    if setting.choices:
        text += f" One of {', '.join(setting.choices)}."
    # A path of the default kind is one of this very installation: where the page is made says nothing about it.
    if setting.default != "" and not str(setting.default).startswith("/"):
        text += f" Default: {setting.default}."
    return [".TP", f"\\fB{escape(setting.name)}\\fR, \\fB{escape(setting.variable)}\\fR", escape(text)]
