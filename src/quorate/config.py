# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting of a node: its unit, its default, and why.

`Config` is the one table: flags, variables, TOML keys, help and defaults all come from it;
`loading` puts together what was given of them. What must match on every node (`cluster`,
`replication`) is compared when links greet. Which of this machine's addresses a node uses is
`addresses`, not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final, NamedTuple, get_type_hints

import msgspec

from quorate.notation import (
    bounded,
    can_be_looked_up,
    nearest,
    parse_duration,
    parse_size,
    parse_url,
)

KEY_BYTES_MAX: Final = 1024
"""Fixed: rows, frames and URLs are sized for it."""
VALUE_BYTES_MOST: Final = 16 << 20
"""The largest `value_bytes_max`: a frame between nodes, at most 32 MiB, must take any record, or it
would be stored on one node and never reach another."""

REPLICATION_MAX: Final = 64
FOUNDERS_MAX: Final = 64
WEIGHT_MAX: Final = 1000
"""These are the core's, which does not know of this module; a test compares them."""

AUTO: Final = "auto"
"""As `advertise`: the node finds out by itself."""

MDNS: Final = "mdns"
DNS: Final = "dns:"
"""As an entry of `discover`, and how one begins."""
DNS_SERVICE: Final = "dns:_"
"""How one begins that is a name of SRV records (RFC 2782)."""

CLOCK_SKEW_MS_LEAST: Final = 100
"""Clocks that are kept by NTP differ by some milliseconds, and more for a while: with less, nodes
would refuse each other's writes on a usual day."""


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
    if text.strip() == AUTO:
        return AUTO
    return parse_url(text) if text.strip() else ""


def _client_url(text: str) -> str:
    return parse_url(text) if text.strip() else ""


def _listen(text: str) -> str:
    host, port = _host_and_port(text, example="0.0.0.0:8000")
    return f"{host or '0.0.0.0'}:{port}"


def _stun(text: str) -> str:
    if not text.strip():
        return ""
    host, port = _host_and_port(text, example="stun.example.org:3478")
    if not host:
        raise ValueError(f"{text!r} names no server: write host:port")
    return f"{host}:{port}"


def _host_and_port(text: str, *, example: str) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"{text!r} has no port: write host:port, for example {example}")
    if host.count(":") and not host.startswith("["):
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [{host}]:{port}")
    if host and not can_be_looked_up(host):
        raise ValueError(f"{text!r} holds no host name: 1 to 63 characters between two dots")
    return host, bounded(int(port), text, low=1, high=65535)


def _discover(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")]
    return tuple(dict.fromkeys(_source(part) for part in parts if part))


def _source(text: str) -> str:
    """One way to find others, in its normal form."""
    if text == MDNS:
        return MDNS
    if not text.startswith(DNS):
        try:
            return parse_url(text)
        except ValueError as fault:
            raise ValueError(f"{fault}{nearest(text, [MDNS])}") from None
    host, colon, port = text.removeprefix(DNS).partition(":")
    if not host or not can_be_looked_up(host) or (colon and not re.fullmatch("[0-9]{1,5}", port)):
        raise ValueError(f"{text!r}: write dns:name or dns:name:port")
    if colon and host.startswith("_"):
        raise ValueError(f"{text!r}: SRV records name the ports: write dns:{host}")
    return f"{DNS}{host}:{bounded(int(port), text, low=1, high=65535)}" if colon else text


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
        size = parse_size(text)
        if size > high:
            raise ValueError(f"{text} is too large: the most is {high >> 20}MiB")
        return bounded(size, text, low=low, high=high)

    return parse


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}{nearest(text, names)}")
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


def _zone(text: str) -> str:
    if text and not _CLUSTER.fullmatch(text):
        raise ValueError(f"{text!r}: a zone's name is 1 to 64 letters, digits, '.', '_', '-'")
    return text


_PEER_NAME: Final = re.compile(
    r"(?:\*\.)?(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def _peer_names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for name in names:
        if not _PEER_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name in a certificate: write one as node1.example.org, or"
                " *.nodes.example.org, where * is one label"
            )
    return names


VARIABLE_PREFIX: Final = "QUORATE_"
"""How the variables begin."""


# --- the table -----------------------------------------------------------------------------------


class Setting(NamedTuple):
    """How people write a field of Config, and what help says of it."""

    parse: Callable[[str], object]
    help: str
    aliases: tuple[str, ...] = ()
    name: str = ""
    """Of the flag and the TOML key; empty: the field's, as `write-wait` of `write_wait_ms`."""
    default: str = ""
    """What help shows; empty: the field's default. `listen` is empty, which would say nothing."""
    field: str = ""
    """Set from where it stands. Empty for `config` alone, which names the file itself."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return VARIABLE_PREFIX + self.name.upper().replace("-", "_")


_MAJORITY: Final = "a majority of the replicas"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A node's settings, valid once `load` returned it: type, notation, help, default and why.

    Units end a name: `timeout_ms`, `value_bytes_max`. `settings.core_settings` hands fields to the
    core by their names. Help shows them in this order.
    """

    port: Annotated[int, Setting(_integer(1, 65535), "TCP port for every client and peer")] = 8000
    listen: Annotated[
        str, Setting(_listen, "host:port to accept connections on", default="loopback, or all")
    ] = ""
    """`host:port`; empty: `port` on loopback when every node is on loopback, else on all."""
    advertise: Annotated[
        str,
        Setting(
            _advertise, "URL that others reach this node at; auto: find out", default="worked out"
        ),
    ] = ""
    """Empty: worked out from `listen` and `nodes`. `auto`: what peers, or `stun`, see."""
    advertise_client: Annotated[
        str, Setting(_client_url, "URL that clients reach this node at", default="as others")
    ] = ""
    """Where it is another than nodes use among themselves: CLUSTER SLOTS and the like tell it."""
    stun: Annotated[
        str,
        Setting(_stun, "STUN server, host:port, for -advertise=auto", default="none: peers say it"),
    ] = ""
    nodes: Annotated[
        tuple[str, ...],
        Setting(_urls, "URLs of the cluster's nodes, by commas", default="this node alone"),
    ] = ()
    """Normalised; empty: this node alone, or whom it discovers."""
    discover: Annotated[
        tuple[str, ...],
        Setting(
            _discover,
            "where to find other nodes: mdns, dns:name[:port], URLs of some, by commas",
            default="nowhere: -nodes alone",
        ),
    ] = ()
    """Whoever is found is dialled; the cluster's name, and secret, say who belongs to it. Without
    `nodes` the node founds no cluster of its own, but waits to find one."""
    expect: Annotated[
        int,
        Setting(
            _integer(0, FOUNDERS_MAX),
            "how many nodes that -discover each other found the cluster; 0: those of -nodes",
        ),
    ] = 0
    """They agree on one list of exactly so many, which then is what `nodes` would have said."""
    join: Annotated[
        tuple[str, ...],
        Setting(_urls, "URLs of nodes of a cluster that is there: become a member", default="none"),
    ] = ()
    """Instead of `nodes`, which has them then too."""
    token_file: Annotated[
        str, Setting(str, "file with the join token, for -join", default="none")
    ] = ""
    """What the cluster gives for it, the secret, is kept in the data directory: the token is used
    once, and every later start finds that."""
    cluster: Annotated[
        str, Setting(_cluster, "the cluster's name; nodes of another cluster are refused")
    ] = "quorate"
    """Compared when nodes meet, so that two clusters never merge by mistake."""
    replication: Annotated[
        int, Setting(_integer(1, REPLICATION_MAX), "copies of each key", ("rep",))
    ] = 3
    w: Annotated[
        int,
        Setting(
            _integer(1, REPLICATION_MAX), "replicas that must hold a write", ("w",), "W", _MAJORITY
        ),
    ] = 0
    """0: a majority of the replicas there are."""
    r: Annotated[
        int,
        Setting(
            _integer(1, REPLICATION_MAX), "replicas that must answer a read", ("r",), "R", _MAJORITY
        ),
    ] = 0
    """0: a majority likewise."""
    heartbeat_ms: Annotated[int, Setting(_duration(10), "time between pings", ("hb",))] = 2_000
    down_after: Annotated[
        int, Setting(_integer(1, 1000), "pings missed in a row that mark a node down")
    ] = 3
    timeout_ms: Annotated[int, Setting(_duration(1), "time replicas have to answer a request")] = (
        5_000
    )
    """Counted from when they were asked; a write may have waited for them before."""
    write_wait_ms: Annotated[
        int, Setting(_duration(0), "how long a write waits for enough live replicas")
    ] = 3_000
    """A write that waited in vain is refused, and was not applied."""
    zone: Annotated[
        str, Setting(_zone, "where this node is: copies of a key lie in different zones")
    ] = ""
    """Taken when the node becomes a member; `quorate plan --zone` changes it later."""
    weight: Annotated[int, Setting(_integer(1, WEIGHT_MAX), "this node's share of the copies")] = 1
    """Beside those of the others. Taken when the node becomes a member."""
    grow_after_ms: Annotated[
        int, Setting(_duration(0), "how long after the last node joined copies are moved to it")
    ] = 30_000
    """Nodes that join within that time of each other are one plan, and a copy moves once."""
    repair_rate: Annotated[
        int,
        Setting(_size(0), "bytes a second that replicas compare and repair; 0 for none"),
    ] = 1 << 20
    """Of what replicas were found to differ in; reads and hints repair beside it."""
    max_clock_skew_ms: Annotated[
        int, Setting(_duration(CLOCK_SKEW_MS_LEAST), "how far ahead a peer's clock may be")
    ] = 1_000
    """A peer's stamp further ahead of our wall clock than this is refused."""
    cache_size: Annotated[
        int,
        Setting(
            _integer(0, 1_000_000_000), "entries in the read cache; 0 turns it off", ("cache",)
        ),
    ] = 100_000
    cache_bytes: Annotated[int, Setting(_size(0), "bytes in the read cache")] = 64 << 20
    data: Annotated[
        str, Setting(str, "directory that keeps the data", default="./quorate-data/<port>")
    ] = ""
    engine: Annotated[
        str,
        Setting(_choice("rocksdb", "memory"), "what stores the data: rocksdb or memory"),
    ] = "rocksdb"
    durability: Annotated[
        str,
        Setting(
            _choice("sync", "os"),
            "what a stored write survives: sync, a power cut; os, the end of the process",
        ),
    ] = "sync"
    old_disk: Annotated[
        str,
        Setting(
            _choice("refuse", "refill", "accept"),
            "a data directory put back as it was before: refuse, refill an empty one, or accept",
        ),
    ] = "refuse"
    """Refilled, the old directory is moved aside and not deleted: it may be the last copy. Accepted
    it is where all nodes' directories were put back."""
    value_bytes_max: Annotated[
        int, Setting(_size(1, VALUE_BYTES_MOST), "bytes in the largest value", name="value-max")
    ] = 8 << 20
    hint_bytes_max: Annotated[
        int,
        Setting(
            _size(0), "bytes of writes kept for replicas that cannot be reached", name="hint-max"
        ),
    ] = 256 << 20
    """For all of them together; the oldest are dropped, and repair covers."""
    connections_max: Annotated[int, Setting(_integer(1, 1_000_000), "connections open at once")] = (
        10_000
    )
    idle_timeout_ms: Annotated[
        int, Setting(_duration(0), "silence after which a Redis client is let go; 0: never")
    ] = 0
    """Redis's `timeout`. HTTP clients are let go after 75 s whatever this says."""
    inflight_max: Annotated[int, Setting(_integer(1, 10_000_000), "requests under way at once")] = (
        50_000
    )
    """More are refused as overloaded before anything is done."""
    inflight_bytes_max: Annotated[
        int, Setting(_size(1), "bytes of requests under way", name="inflight-bytes")
    ] = 256 << 20
    reply_bytes_max: Annotated[
        int, Setting(_size(32 << 20), "bytes of replies that wait for clients", name="reply-bytes")
    ] = 256 << 20
    """Over all connections, beside 64 KiB that each has free; what finds no room is refused as
    overloaded. At least 32 MiB, so that one value of the greatest length always fits."""
    allow_flush: Annotated[bool, Setting(_switch, "let FLUSHDB delete all keys")] = False
    insecure: Annotated[
        bool, Setting(_switch, "start though all who reach the address may do everything")
    ] = False
    """Without it a node that can be reached from other machines has to know who may do what."""
    secret_file: Annotated[
        str,
        Setting(str, "file with the cluster's secret: links between nodes are TLS", default="none"),
    ] = ""
    """One line, or two while it is changed: the first signs, both are accepted. The secret itself
    is QUORATE_SECRET and never a flag, which others can see."""
    tls: Annotated[
        str,
        Setting(
            _choice("off", "optional", "required"),
            "TLS for clients: off, optional or required",
            default="required with -tls-cert, else off",
        ),
    ] = ""
    """Off, clients speak plain, but for who shows a certificate of the secret."""
    tls_cert: Annotated[
        str, Setting(str, "PEM file with the certificate that clients see", default="none")
    ] = ""
    """And peers, where there is no secret. The chain may follow it."""
    tls_key: Annotated[str, Setting(str, "PEM file with the key of -tls-cert", default="none")] = ""
    tls_ca: Annotated[
        str,
        Setting(
            str, "PEM file with authorities whose certificates are accepted", default="the secret's"
        ),
    ] = ""
    """Of clients, and of nodes where `peer_names` has their name."""
    peer_names: Annotated[
        tuple[str, ...],
        Setting(_peer_names, "names in nodes' certificates of -tls-ca, by commas", default="none"),
    ] = ()
    """`*` is one label. Any other certificate of that authority is a client's."""
    users: Annotated[
        str, Setting(str, "TOML file of users, who have to log in", default="there are none")
    ] = ""
    """`quorate user` writes it. Read again when it changes."""
    loop: Annotated[
        str,
        Setting(_choice("auto", "uvloop", "asyncio"), "event loop: auto, uvloop or asyncio"),
    ] = "auto"
    """`auto`: uvloop where it exists."""
    log_level: Annotated[
        str,
        Setting(
            _choice("debug", "info", "warning", "error"),
            "least level that is logged: debug, info, warning or error (audit events always are)",
        ),
    ] = "info"
    log_format: Annotated[
        str, Setting(_choice("auto", "json", "text"), "form of the log: auto, json or text")
    ] = "auto"
    """`auto`: text on a terminal, else json."""


def _settings() -> tuple[Setting, ...]:
    hints = get_type_hints(Config, include_extras=True)
    defaults = msgspec.structs.asdict(Config())
    found: list[Setting] = []
    for field, value in defaults.items():
        (setting,) = hints[field].__metadata__
        name = setting.name or field.removesuffix("_ms").replace("_", "-")
        default = setting.default or _written(field, value)
        found.append(setting._replace(name=name, default=default, field=field))
    return *found, Setting(str, "TOML file with these settings", name="config", default="none")


def _written(field: str, value: object) -> str:
    """A value as a person would write it; what it counts is in the field's name."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and field.endswith("_ms"):
        return f"{value}ms" if value % 1000 else f"{value // 1000}s"
    if isinstance(value, int) and ("_bytes" in field or field.endswith("_rate")):
        return f"{value >> 20}MiB"
    return str(value)


SETTINGS: Final = _settings()
"""Every flag of `serve`, in the order that help shows."""
