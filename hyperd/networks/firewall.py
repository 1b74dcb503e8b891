"""Other programs' packet filters: one that drops what is forwarded does so whatever our table accepts.

We look, and say so. Docker has a chain for rules of the administrator's (DOCKER-USER); if we may, one rule goes there, which lets our mark pass.
"""

import shutil
import subprocess
from pathlib import Path

from . import rules

_LEGACY = (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names"))
_NFT = {"ip": "iptables-nft", "ip6": "ip6tables-nft"}
_DOCKER = "DOCKER-USER"


def settle(mark: int, *, allow_in_docker: bool) -> tuple[str, ...]:
    """What still stops forwarded packets, as sentences for the user. With ``allow_in_docker`` Docker does no longer."""
    found = []
    chains = rules.dropping_chains()
    commands = [_NFT[family] for family, table, _ in chains if table == "filter" and family in _NFT]
    for program in (*commands, *_legacy_dropping()):
        if allow_in_docker and _allow(program, mark):
            continue
        found.append(
            f"the chain FORWARD of {program} drops what no rule accepts; pods have no connections to the outside until: "
            f"{program} -I {_place(program)} {' '.join(_rule(mark))}"
        )
    for family, table, chain in chains:
        if not (table == "filter" and family in _NFT):
            found.append(
                f"the chain {chain} of nftables' table {family} {table} drops what no rule accepts; pods have no connections to the outside "
                f"until: nft insert rule {family} {table} {chain} meta mark \\& {mark:#x} != 0 accept"
            )
    return tuple(found)


def forget(mark: int) -> None:
    """Takes our rule out of Docker's chain, wherever it is."""
    for program in (*_NFT.values(), *(name for name, _ in _LEGACY)):
        if _has_docker(program):
            _run(program, "-D", _DOCKER, *_rule(mark))


def _legacy_dropping() -> list[str]:
    """The old kind of tables, which nft does not see. Asking for them would make them, so the kernel is asked first."""
    found = []
    for program, names in _LEGACY:
        tables = Path("/proc/thread-self/net", names)
        if tables.exists() and "filter" in tables.read_text().split():
            done = _run(program, "-S", "FORWARD")
            if done is not None and done.stdout.startswith("-P FORWARD DROP"):
                found.append(program)
    return found


def _rule(mark: int) -> list[str]:
    return ["-m", "mark", "--mark", f"{mark:#x}/{mark:#x}", "-m", "comment", "--comment", "hyperd", "-j", "ACCEPT"]


def _place(program: str) -> str:
    return _DOCKER if _has_docker(program) else "FORWARD"


def _has_docker(program: str) -> bool:
    done = _run(program, "-S", _DOCKER)
    return done is not None and done.returncode == 0


def _allow(program: str, mark: int) -> bool:
    """Whether Docker's chain has our rule now."""
    if not _has_docker(program):
        return False
    done = _run(program, "-C", _DOCKER, *_rule(mark))
    if done is not None and done.returncode == 0:
        return True
    done = _run(program, "-I", _DOCKER, *_rule(mark))
    return done is not None and done.returncode == 0


def _run(program: str, *args: str) -> subprocess.CompletedProcess[str] | None:
    """None: it is not installed, or does not answer."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        return subprocess.run(
            [path, "-w", "5", *args], capture_output=True, text=True, timeout=rules.DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None
