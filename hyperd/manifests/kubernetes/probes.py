"""Probes and lifecycle hooks."""

from hyperd import spec
from hyperd.errors import InvalidError
from hyperd.manifests import names
from hyperd.manifests.kubernetes import records
from hyperd.manifests.kubernetes.scope import one_of

Ports = dict[str, int]


def probe(found: records.Probe | None, path: str, ports: Ports, *, readiness: bool = False) -> spec.Probe | None:
    """``ports``: those of the container that have names. Zero stands for the default, as in Kubernetes."""
    if found is None:
        return None
    kinds: dict[str, object] = {"exec": found.exec, "httpGet": found.http_get, "tcpSocket": found.tcp_socket, "grpc": found.grpc}
    where = f"{path}.{one_of(kinds, path, '')}"
    for name in ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold"):
        _not_negative(_number(found, name), f"{path}.{name}")
    if not readiness and found.success_threshold > 1:
        raise InvalidError(f"{path}.successThreshold: must be 1")
    grace = found.termination_grace_period_seconds
    if grace is not None and (readiness or grace < 1):
        raise InvalidError(f"{path}.terminationGracePeriodSeconds: " + ("is not for readiness" if readiness else f"{grace} is not positive"))
    return spec.Probe(
        command=_command(found.exec, where),
        http=_http(found.http_get, where, ports),
        tcp_port=_port(found.tcp_socket.port, f"{where}.port", ports) if found.tcp_socket else 0,
        tcp_host=found.tcp_socket.host if found.tcp_socket else "",
        grpc_port=names.port(found.grpc.port, f"{where}.port") if found.grpc else 0,
        grpc_service=found.grpc.service if found.grpc else "",
        initial_delay_s=float(found.initial_delay_seconds),
        period_s=float(found.period_seconds or 10),
        timeout_s=float(found.timeout_seconds or 1),
        successes=found.success_threshold or 1,
        failures=found.failure_threshold or 3,
        termination_grace_s=None if grace is None else float(grace),
    )


def _number(found: records.Probe, name: str) -> int:
    return {
        "initialDelaySeconds": found.initial_delay_seconds,
        "periodSeconds": found.period_seconds,
        "timeoutSeconds": found.timeout_seconds,
        "successThreshold": found.success_threshold,
        "failureThreshold": found.failure_threshold,
    }[name]


def handler(found: records.Handler | None, path: str, ports: Ports) -> spec.Handler | None:
    if found is None:
        return None
    kinds: dict[str, object] = {"exec": found.exec, "httpGet": found.http_get, "tcpSocket": found.tcp_socket, "sleep": found.sleep}
    kind = one_of(kinds, path, "")
    where = f"{path}.{kind}"
    if kind == "tcpSocket":
        raise InvalidError(f"{where} is not supported: Kubernetes does not carry it out either")
    if found.sleep is not None:
        _not_negative(found.sleep.seconds, f"{where}.seconds")
    return spec.Handler(
        command=_command(found.exec, where),
        http=_http(found.http_get, where, ports),
        sleep_s=float(found.sleep.seconds) if found.sleep else 0.0,
    )


def _not_negative(number: int, path: str) -> None:
    if not 0 <= number < 2**31:
        raise InvalidError(f"{path}: {number} is not a number from 0 to {2**31 - 1}")


def _command(found: records.Exec | None, path: str) -> tuple[str, ...]:
    if found is None:
        return ()
    if not found.command:
        raise InvalidError(f"{path}.command: must not be empty")
    for index, word in enumerate(found.command):
        names.no_nul(word, f"{path}.command[{index}]")
    return tuple(found.command)


def _http(found: records.HttpGet | None, path: str, ports: Ports) -> spec.HttpGet | None:
    if found is None:
        return None
    if found.scheme not in ("HTTP", "HTTPS"):
        raise InvalidError(f"{path}.scheme: {found.scheme!r} is neither HTTP nor HTTPS")
    for index, header in enumerate(found.http_headers):
        if not header.name or not all("!" <= char <= "~" and char not in ':"(),/;<=>?@[\\]{}' for char in header.name):
            raise InvalidError(f"{path}.httpHeaders[{index}].name: {header.name!r} is not the name of a header")
        _one_line(header.value, f"{path}.httpHeaders[{index}].value")
    _one_line(found.host, f"{path}.host")
    return spec.HttpGet(
        port=_port(found.port, f"{path}.port", ports),
        path=_one_line("/" + found.path.lstrip("/"), f"{path}.path"),
        scheme="https" if found.scheme == "HTTPS" else "http",
        host=found.host,
        headers=tuple((header.name, header.value) for header in found.http_headers),
    )


def _one_line(text: str, path: str) -> str:
    if any(char < " " or char == "\x7f" for char in text):
        raise InvalidError(f"{path}: contains control characters")
    return text


def _port(value: int | str, path: str, ports: Ports) -> int:
    if isinstance(value, int):
        return names.port(value, path)
    if value not in ports:
        raise InvalidError(f"{path}: {value[:80]!r} is not the name of a port of this container")
    return ports[value]
