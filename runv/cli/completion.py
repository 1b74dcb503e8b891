"""Completion for shells, made of the table in ``options``. Pure: the scripts know every command and flag, and ask runv for containers only."""

import shlex
from collections.abc import Iterable

from runv.cli.options import COMMANDS, GLOBAL, Command, Flag

SHELLS = ("bash", "zsh", "fish")

# Commands whose first argument is a new id.
_NEW = ("create", "run")
# Values that can be listed. Others are files and folders, or free.
_VALUES = {
    "cgroup-manager": ("cgroupfs", "systemd", "disabled"),
    "format": ("table", "json"),
    "log-format": ("text", "json"),
}
_FOLDERS = ("bundle", "root")
_FILES = ("console-socket", "log", "pid-file", "process", "resources")
_SIGNALS = ("HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "STOP", "CONT", "WINCH", "KILL")
_HELP = next(flag for flag in GLOBAL if flag.name == "help")


def script(shell: str) -> str:
    """The completion script of one of ``SHELLS``."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _flags(command: Command | None) -> tuple[Flag, ...]:
    """The flags of a command; of runv itself for None."""
    return GLOBAL if command is None else (*command.flags, _HELP)


def _names(flag: Flag) -> list[str]:
    return [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]


def _valued(command: Command | None) -> list[str]:
    """The flags that a value follows."""
    return [name for flag in _flags(command) if flag.kind != "switch" for name in _names(flag)]


def _words(command: Command) -> tuple[str, ...]:
    """What the first argument can be, where it is one of a few words: ``init|list``."""
    first = command.arguments.partition(" ")[0]
    return tuple(first.split("|")) if "|" in first else ()


def _takes_container(command: Command) -> bool:
    return command.arguments.startswith("CONTAINER") and command.name not in _NEW


def _list(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


# --- bash ---

_BASH = """\
# bash completion for runv; made by `runv completion bash`

_runv_containers() {
    command runv ${root:+--root "$root"} list --quiet 2>/dev/null
}

_runv_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_runv() {
    local word cur prev command= root= valued flags= first= arguments=0 i
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    # bash makes three words of --flag=value.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 2)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    _runv_table
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == -?* ]]; then
            [[ " $valued " == *" $word "* ]] || continue
            [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
            ((i++))
            [[ $word == --root ]] && root=${COMP_WORDS[i]}
        elif [[ -z $command ]]; then
            command=$word
            _runv_table
        else
            ((arguments++))
        fi
    done
    if [[ " $valued " == *" $prev "* ]]; then
        _runv_value
    elif [[ $cur == -* ]]; then
        _runv_words "$flags"
    elif [[ -z $command ]]; then
        _runv_words @COMMANDS@
    elif ((arguments == 0)); then
        [[ $first == CONTAINER ]] && first=$(_runv_containers)
        _runv_words "$first"
    elif [[ $command == kill ]] && ((arguments == 1)); then
        _runv_words @SIGNALS@
    elif [[ $command == exec ]]; then
        compopt -o default
    fi
}

_runv_table() {
    case $command in
@TABLE@
    esac
}

_runv_value() {
    case $prev in
@VALUES@
    esac
}

complete -F _runv runv
"""


def _bash() -> str:
    table = [
        _bash_row("''", None, ""),
        *(_bash_row(command.name, command, _bash_first(command)) for command in COMMANDS),
    ]
    values = [f"        {_spellings(name)}) _runv_words {_list(words)} ;;" for name, words in _VALUES.items()]
    values.append(f"        {'|'.join(_spellings(name) for name in _FOLDERS)}) compopt -o dirnames ;;")
    values.append(f"        {'|'.join(_spellings(name) for name in _FILES)}) compopt -o default ;;")
    text = _BASH.replace("@COMMANDS@", _list(command.name for command in COMMANDS)).replace(
        "@SIGNALS@", _list(_SIGNALS)
    )
    return text.replace("@TABLE@", "\n".join(table)).replace("@VALUES@", "\n".join(values))


def _bash_row(pattern: str, command: Command | None, first: str) -> str:
    flags = _list(f"--{flag.name}" for flag in _flags(command))
    return f"        {pattern}) valued={_list(_valued(command))} flags={flags} first={shlex.quote(first)} ;;"


def _bash_first(command: Command) -> str:
    return "CONTAINER" if _takes_container(command) else " ".join(_words(command))


def _spellings(name: str) -> str:
    """Every way in which a flag is written that has a value, whatever command it belongs to."""
    flags = [flag for command in (None, *COMMANDS) for flag in _flags(command) if flag.kind != "switch"]
    return "|".join(dict.fromkeys(word for flag in flags if flag.name == name for word in _names(flag)))


# --- zsh ---

_ZSH = """\
#compdef runv
# zsh completion for runv; made by `runv completion zsh`

_runv_containers() {
    local -a ids
    ids=(${(f)"$(command runv $root list --quiet 2>/dev/null)"})
    compadd -a ids
}

_runv() {
    local context state line
    local -A opt_args
    local -a commands root
    commands=(
@COMMANDS@
    )
    _arguments -C \\
@GLOBAL@
        '1:command:->command' \\
        '*::argument:->argument'
    # The arguments of a command overwrite them.
    [[ -n ${opt_args[--root]} ]] && root=(--root ${(Q)opt_args[--root]})
    case $state in
        command) _describe command commands ;;
        argument)
            case $words[1] in
@CASES@
            esac
            ;;
    esac
}

if [[ $funcstack[1] == _runv ]]; then
    _runv "$@"
else
    compdef _runv runv
fi
"""


def _zsh() -> str:
    commands = "\n".join(f"        {shlex.quote(f'{command.name}:{command.summary}')}" for command in COMMANDS)
    options = "\n".join(f"        {_zsh_flag(flag)} \\" for flag in GLOBAL)
    cases = "\n".join(_zsh_case(command) for command in COMMANDS)
    return _ZSH.replace("@COMMANDS@", commands).replace("@GLOBAL@", options).replace("@CASES@", cases)


def _zsh_case(command: Command) -> str:
    parts = [_zsh_flag(flag) for flag in _flags(command)]
    if _takes_container(command):
        parts.append("'1:container:_runv_containers'")
    elif _words(command):
        parts.append(shlex.quote(f"1:word:({' '.join(_words(command))})"))
    elif command.most:
        parts.append("'1:new container:'")
    if command.name == "kill":
        parts.append(shlex.quote(f"2:signal:({' '.join(_SIGNALS)})"))
    if command.name == "exec":
        parts.append("'*::command:_normal'")
    body = " \\\n".join(f"                        {part}" for part in parts)
    return f"                {command.name})\n                    _arguments \\\n{body}\n                    ;;"


def _zsh_flag(flag: Flag) -> str:
    text = flag.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    value = "" if flag.kind == "switch" else f":{flag.name}:{_zsh_value(flag)}"
    equals = "" if flag.kind == "switch" else "="
    repeated = "*" if flag.kind == "list" else ""
    if not flag.short:
        return shlex.quote(f"{repeated}--{flag.name}{equals}[{text}]{value}")
    alone = "" if repeated else f"(-{flag.short} --{flag.name})"
    spelled = f"{{-{flag.short}{'+' if equals else ''},--{flag.name}{equals}}}"
    return f"{shlex.quote(alone + repeated)}{spelled}{shlex.quote(f'[{text}]{value}')}"


def _zsh_value(flag: Flag) -> str:
    if flag.name in _VALUES:
        return f"({' '.join(_VALUES[flag.name])})"
    return "_files -/" if flag.name in _FOLDERS else "_files" if flag.name in _FILES else ""


# --- fish ---

_FISH = """\
# fish completion for runv; made by `runv completion fish`

function __runv_words
    set -l words (commandline -opc)
    set -e words[1]
    printf '%s\\n' $words
end

# The command that was given, without the global flags before it.
function __runv_command
    set -l skip
    for word in (__runv_words)
        if test -n "$skip"
            set skip
        else if contains -- $word @VALUED@
            set skip yes
        else if not string match -q -- '-*' $word
            echo $word
            return 0
        end
    end
    return 1
end

function __runv_is
    test (__runv_command; or echo) = "$argv[1]"
end

function __runv_containers
    set -l words (__runv_words)
    set -l root
    if set -l at (contains -i -- --root $words)
        set root --root $words[(math $at + 1)]
    else if set -l given (string match -r -- '^--root=.*' $words)
        set root $given
    end
    command runv $root list --quiet 2>/dev/null
end

complete -c runv -f
"""


def _fish() -> str:
    lines = [_FISH.replace("@VALUED@", " ".join(_valued(None)))]
    lines += [_fish_flag("__runv_is ''", flag) for flag in GLOBAL]
    for command in COMMANDS:
        lines.append(f"complete -c runv -n \"__runv_is ''\" -a {command.name} -d {_fish_text(command.summary)}")
        is_it = f"__runv_is {command.name}"
        lines += [_fish_flag(is_it, flag) for flag in _flags(command)]
        if _takes_container(command):
            lines.append(f"complete -c runv -n '{is_it}' -a '(__runv_containers)'")
        words = (*_words(command), *(_SIGNALS if command.name == "kill" else ()))
        if words:
            lines.append(f"complete -c runv -n '{is_it}' -a '{' '.join(words)}'")
        if command.name == "exec":
            lines.append(f"complete -c runv -n '{is_it}' -F")
    return "\n".join(lines) + "\n"


def _fish_flag(condition: str, flag: Flag) -> str:
    parts = ["complete -c runv -n", f'"{condition}"', "-l", flag.name]
    if flag.short:
        parts += ["-s", flag.short]
    if flag.name in _VALUES:
        parts += ["-x", "-a", f"'{' '.join(_VALUES[flag.name])}'"]
    elif flag.name in _FOLDERS:
        parts += ["-x", "-a", "'(__fish_complete_directories)'"]
    elif flag.name in _FILES:
        parts += ["-r", "-F"]
    elif flag.kind != "switch":
        parts.append("-x")
    return " ".join([*parts, "-d", _fish_text(flag.help)])


def _fish_text(text: str) -> str:
    """In single quotes, where fish takes two escapes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
