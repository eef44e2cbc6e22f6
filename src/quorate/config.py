# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting of a node: its unit, its default, and why.

Defaults < TOML file < environment (`QUORATE_` + name) < flags; each is parsed once, and all faults
are reported together. One table, `FLAGS`, gives the flag names, the variables, the TOML keys, the
parsers and the help. What must match on every node (`cluster`, `replication`) is compared in the
handshake of links. Which of this machine's addresses a node uses is `addresses`, not here.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from quorate.notation import bounded, parse_duration, parse_size, parse_url

KEY_BYTES_MAX: Final = 1024
"""Fixed: rows, frames and URLs are sized for it."""
VALUE_BYTES_MOST: Final = 16 << 20
"""The largest `value_bytes_max`: a frame between nodes, at most 32 MiB, must take any record, or it
would be stored on one node and never reach another."""

CLOCK_SKEW_MS_LEAST: Final = 100
"""Half of it is how far ahead the clock's ceiling is stored: a disk that takes longer to sync would
never let a write be stamped."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A node's settings, valid once `load` returned it. Field names are flag names, `_ms` aside."""

    port: int = 8000
    listen: str = ""
    """`host:port`; empty: `port` on loopback when every node is on loopback, else on all."""
    advertise: str = ""
    """URL that others reach this node at; empty: worked out from `listen` and `nodes`."""
    nodes: tuple[str, ...] = ()
    """URLs of the cluster's nodes, normalised; empty: this node alone."""
    cluster: str = "quorate"
    """Nodes of another cluster name are refused, so that two clusters never merge by mistake."""
    replication: int = 3
    w: int = 0
    """Replicas that must hold a write; 0: a majority of the replicas there are."""
    r: int = 0
    """Replicas that must answer a read; 0: a majority likewise."""
    timeout_ms: int = 5_000
    """How long a request may take once replicas were asked."""
    write_wait_ms: int = 3_000
    """How long a write waits for enough live replicas before it is refused."""
    heartbeat_ms: int = 2_000
    down_after: int = 3
    """Heartbeats missed in a row that mark a node down."""
    max_clock_skew_ms: int = 1_000
    """A peer's stamp further ahead of our wall clock than this is refused."""
    cache_size: int = 100_000
    """Entries of the read cache; 0 switches it off."""
    cache_bytes: int = 64 << 20
    data: str = ""
    """Directory; empty: `./quorate-data/<port>`."""
    engine: str = "rocksdb"
    durability: str = "sync"
    """`sync`: an acknowledged write is on disk; `os`: it is with the operating system, and survives
    the process but not a power cut."""
    value_bytes_max: int = 8 << 20
    hint_bytes_max: int = 256 << 20
    """Kept for all unreachable replicas together; the oldest are dropped, and repair covers."""
    connections_max: int = 10_000
    inflight_max: int = 50_000
    """Requests begun and not finished; more are refused as overloaded before anything is done."""
    inflight_bytes_max: int = 256 << 20
    allow_flush: bool = False
    """Whether FLUSHDB is obeyed."""
    loop: str = "auto"
    """`uvloop`, `asyncio`, or `auto`: uvloop where it exists."""
    log_level: str = "info"
    log_format: str = "auto"
    """`json`, `text`, or `auto`: text on a terminal."""


class ConfigError(Exception):
    """The settings cannot be used. `faults`: one line each, naming the setting and what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


# --- one value ---------------------------------------------------------------------------------
# Each parser takes the text of a setting and returns its value; ValueError says what to write.

_CLUSTER: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _urls(text: str) -> tuple[str, ...]:
    # dict: unique, and in the order given.
    return tuple(dict.fromkeys(parse_url(part) for part in text.split(",") if part.strip()))


def _advertise(text: str) -> str:
    return parse_url(text) if text.strip() else ""


def _listen(text: str) -> str:
    host, colon, port = text.strip().rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"{text!r} has no port: write host:port, for example 0.0.0.0:8000")
    if host.count(":") and not host.startswith("["):
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [{host}]:{port}")
    return f"{host or '0.0.0.0'}:{bounded(int(port), text, low=1, high=65535)}"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f"{text!r} is no whole number")
        return bounded(int(text), text, low=low, high=high)

    return parse


def _duration(low: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if parse_duration(text) < low:
            raise ValueError(f"{text} is too short: the least is {low}ms")
        return parse_duration(text)

    return parse


def _size(low: int, high: int = 1 << 50) -> Callable[[str], int]:
    def parse(text: str) -> int:
        return bounded(parse_size(text), text, low=low, high=high)

    return parse


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}{_nearest(text, names)}")
        return text

    return parse


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"


def _cluster(text: str) -> str:
    if not _CLUSTER.fullmatch(text):
        raise ValueError(f"{text!r}: a cluster's name is 1 to 64 letters, digits, '.', '_', '-'")
    return text


def _nearest(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]}?" if found else ""


# --- the table ---------------------------------------------------------------------------------


class Flag(NamedTuple):
    """One setting as people write it."""

    name: str
    field: str
    """The field of Config; empty for `config`, which names the file itself."""
    parse: Callable[[str], object]
    default: str
    """As help shows it."""
    help: str
    aliases: tuple[str, ...] = ()
    is_switch: bool = False
    """Whether the bare flag means `true`."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "QUORATE_" + self.name.upper().replace("-", "_")


_MAJORITY: Final = "a majority of the replicas"

FLAGS: Final = (
    Flag("port", "port", _integer(1, 65535), "8000", "TCP port for every client and peer"),
    Flag("listen", "listen", _listen, "loopback, or all", "host:port to accept connections on"),
    Flag("advertise", "advertise", _advertise, "worked out", "URL that others reach this node at"),
    Flag("nodes", "nodes", _urls, "this node alone", "URLs of the cluster's nodes, by commas"),
    Flag(
        "cluster",
        "cluster",
        _cluster,
        "quorate",
        "the cluster's name; nodes of another cluster are refused",
    ),
    Flag("replication", "replication", _integer(1, 64), "3", "copies of each key", ("rep",)),
    Flag("W", "w", _integer(1, 64), _MAJORITY, "replicas that must hold a write", ("w",)),
    Flag("R", "r", _integer(1, 64), _MAJORITY, "replicas that must answer a read", ("r",)),
    Flag("heartbeat", "heartbeat_ms", _duration(10), "2s", "time between pings", ("hb",)),
    Flag(
        "down-after",
        "down_after",
        _integer(1, 1000),
        "3",
        "pings missed in a row that mark a node down",
    ),
    Flag("timeout", "timeout_ms", _duration(1), "5s", "time replicas have to answer a request"),
    Flag(
        "write-wait",
        "write_wait_ms",
        _duration(0),
        "3s",
        "how long a write waits for enough live replicas",
    ),
    Flag(
        "max-clock-skew",
        "max_clock_skew_ms",
        _duration(CLOCK_SKEW_MS_LEAST),
        "1s",
        "how far ahead a peer's clock may be",
    ),
    Flag(
        "cache-size",
        "cache_size",
        _integer(0, 1_000_000_000),
        "100000",
        "entries in the read cache; 0 turns it off",
        ("cache",),
    ),
    Flag("cache-bytes", "cache_bytes", _size(0), "64MiB", "bytes in the read cache"),
    Flag("data", "data", str, "./quorate-data/<port>", "directory that keeps the data"),
    Flag(
        "engine",
        "engine",
        _choice("rocksdb", "memory"),
        "rocksdb",
        "what stores the data: rocksdb or memory",
    ),
    Flag(
        "durability",
        "durability",
        _choice("sync", "os"),
        "sync",
        "what a stored write survives: sync, a power cut; os, the end of the process",
    ),
    Flag(
        "value-max",
        "value_bytes_max",
        _size(1, VALUE_BYTES_MOST),
        "8MiB",
        "bytes in the largest value",
    ),
    Flag(
        "hint-max",
        "hint_bytes_max",
        _size(0),
        "256MiB",
        "bytes of writes kept for replicas that cannot be reached",
    ),
    Flag(
        "connections-max",
        "connections_max",
        _integer(1, 1_000_000),
        "10000",
        "connections open at once",
    ),
    Flag(
        "inflight-max",
        "inflight_max",
        _integer(1, 10_000_000),
        "50000",
        "requests under way at once",
    ),
    Flag("inflight-bytes", "inflight_bytes_max", _size(1), "256MiB", "bytes of requests under way"),
    Flag(
        "allow-flush",
        "allow_flush",
        _switch,
        "false",
        "let FLUSHDB delete all keys",
        is_switch=True,
    ),
    Flag(
        "loop",
        "loop",
        _choice("auto", "uvloop", "asyncio"),
        "auto",
        "event loop: auto, uvloop or asyncio",
    ),
    Flag(
        "log-level",
        "log_level",
        _choice("debug", "info", "warning", "error"),
        "info",
        "least level that is logged: debug, info, warning or error",
    ),
    Flag(
        "log-format",
        "log_format",
        _choice("auto", "json", "text"),
        "auto",
        "form of the log: auto, json or text",
    ),
    Flag("config", "", str, "none", "TOML file with these settings"),
)
"""Every flag of `serve`, in the order that help shows."""

_BY_NAME: Final = {name: flag for flag in FLAGS for name in (flag.name, *flag.aliases)}
_BY_VARIABLE: Final = {flag.variable: flag for flag in FLAGS}


# --- all of them -------------------------------------------------------------------------------


class _Given(NamedTuple):
    """What was written for a setting, and where, for the fault that names it."""

    text: str
    source: str


def load(*, flags: Mapping[str, str], environment: Mapping[str, str], file: Path | None) -> Config:
    """The valid settings of a node.

    Raises ConfigError with every fault there is. Empty variables count as not set.
    """
    faults: list[str] = []
    given: dict[str, _Given] = {}
    for layer in (_of_file(file, faults), _of(environment), _of_flags(flags, faults)):
        given.update(layer)
    values = _parsed(given, faults)
    _reconcile(values, given, faults)
    if faults:
        raise ConfigError(faults)
    return msgspec.convert(values, Config)


def file_of(*, flags: Mapping[str, str], environment: Mapping[str, str]) -> Path | None:
    """The TOML file that the flags or the environment name, if any."""
    name = flags.get("config") or environment.get("QUORATE_CONFIG")
    return Path(name) if name else None


def _of_flags(flags: Mapping[str, str], faults: list[str]) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    for name, text in flags.items():
        flag = _BY_NAME.get(name)
        if flag is None:
            faults.append(f"-{name}: no such flag{_nearest(name, _BY_NAME)}")
        elif flag.field:
            found[flag.field] = _Given(text, f"-{name}")
    return found


def _of(environment: Mapping[str, str]) -> dict[str, _Given]:
    # Unknown variables are let be: an orchestrator sets QUORATE_SERVICE_HOST and the like for a
    # service of our name, and the client has variables of its own.
    return {
        flag.field: _Given(environment[variable], variable)
        for variable, flag in _BY_VARIABLE.items()
        if flag.field and environment.get(variable)
    }


def _of_file(file: Path | None, faults: list[str]) -> dict[str, _Given]:
    if file is None:
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        faults.append(f"-config {file}: {getattr(fault, 'strerror', None) or fault}")
        return {}
    found: dict[str, _Given] = {}
    for name, value in table.items():
        flag, text = _BY_NAME.get(name), _toml_text(value)
        if flag is None or not flag.field:
            faults.append(f"{file}: {name}: no such setting{_nearest(name, _BY_NAME)}")
        elif text is None:
            faults.append(f"{file}: {name}: write a string, a whole number, true or false")
        else:
            found[flag.field] = _Given(text, f"{file}: {name}")
    return found


def _toml_text(value: object) -> str | None:
    """A TOML value as the text that a flag would have; None if no flag could mean it."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
        case list() if all(isinstance(item, str) for item in value):
            return ",".join(value)
    return None


def _parsed(given: Mapping[str, _Given], faults: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for flag in FLAGS:
        if flag.field not in given:
            continue
        text, source = given[flag.field]
        try:
            values[flag.field] = flag.parse(text)
        except ValueError as fault:
            faults.append(f"{source}: {fault}")
    return values


def _reconcile(values: dict[str, object], given: Mapping[str, _Given], faults: list[str]) -> None:
    """Check the settings against each other; `port` follows `listen` where only that is given."""
    copies = values.get("replication", None if "replication" in given else Config().replication)
    for name in ("w", "r"):
        asked = values.get(name)
        if isinstance(asked, int) and isinstance(copies, int) and asked > copies:
            faults.append(
                f"{given[name].source}: {asked} replicas can never answer where each key has"
                f" {copies}: lower it, or raise -replication"
            )
    if "listen" in values:
        port = int(str(values["listen"]).rpartition(":")[2])
        if values.setdefault("port", port) != port:
            faults.append(
                f"{given['listen'].source}: port {port} is not -port {values['port']}: give one"
            )
