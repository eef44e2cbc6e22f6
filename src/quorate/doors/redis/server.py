# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands about the node: INFO, CONFIG, TIME, DBSIZE, LASTSAVE, ROLE, WAIT.

WAIT answers at once, with what is known for certain: one less (Redis does not count the primary's
copy) than the fewest copies that any write of this client since its last WAIT was acknowledged
with. Nothing is waited for, because a write is only answered once W replicas have it; more may hold
it by then. Without such writes: what the WAIT before said, and before the first write the number of
copies that a key has, less one.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from quorate.core.values.slots import PARTITION_COUNT
from quorate.core.values.status import Status
from quorate.doors.access import Role
from quorate.doors.redis.clients import REDIS_VERSION
from quorate.doors.redis.command import (
    Access,
    Command,
    audited,
    container,
    integer_argument,
    pattern_argument,
    quote,
)
from quorate.doors.redis.glob import NAME_PATTERN_BYTES_MAX, compile_glob
from quorate.doors.redis.session import ACKS_NONE, CommandError, RespDoor, Session
from quorate.host.store import Store
from quorate.wire import resp

CONFIG_PATTERNS_MAX: Final = 16
InfoFacts = dict[str, int | str]
_STATM: Final = Path("/proc/self/statm")
"""Pages of this process; the second number is of those in memory. Linux alone has it."""


def _server(door: RespDoor, status: Status) -> InfoFacts:
    uptime = max(door.store.wall_ms() - door.started_ms, 0) // 1000
    return {
        "redis_version": REDIS_VERSION,
        "quorate_version": status.version,
        "redis_mode": "cluster",
        "os": sys.platform,
        "arch_bits": struct.calcsize("P") * 8,
        "process_id": os.getpid(),
        "run_id": status.id,
        "tcp_port": door.store.config.port,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime // 86400,
    }


def _counts(door: RespDoor, status: Status) -> Iterable[tuple[str, int]]:
    """What was counted since the node began."""
    yield "total_connections_received", door.connections_received
    yield "total_commands_processed", door.commands_processed
    yield from status.counters.items()


def _keyspace(door: RespDoor, _status: Status) -> InfoFacts:
    keys = _key_count(door)
    return {"db0": f"keys={keys},expires=0,avg_ttl=0"} if keys else {}


def _resident() -> InfoFacts:
    """What memory the process has, where the system tells it."""
    try:
        size = int(_STATM.read_bytes().split()[1]) * mmap.PAGESIZE
    except OSError:
        return {}
    return {"used_memory": size, "used_memory_rss": size}


SECTIONS: Final[dict[str, Callable[[RespDoor, Status], InfoFacts]]] = {
    "Server": _server,
    "Clients": lambda door, _status: {
        "connected_clients": len(door.sessions),
        "maxclients": door.store.config.connections_max,
        "blocked_clients": 0,
    },
    "Memory": lambda _door, status: {
        **_resident(),
        "used_memory_dataset": status.bytes,
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    },
    "Persistence": lambda _door, status: {"loading": 0 if status.ready else 1, "aof_enabled": 1},
    "Stats": lambda door, status: {
        name: count - door.counts_before.get(name, 0) for name, count in _counts(door, status)
    },
    "Replication": lambda _door, status: {
        "role": "master",
        "connected_slaves": sum(member.state == "up" for member in status.members),
        "master_replid": status.id,
    },
    "Cluster": lambda _door, _status: {"cluster_enabled": 1},
    "Keyspace": _keyspace,
    "Quorate": lambda _door, status: {
        "cluster": status.cluster,
        "url": status.url,
        "epoch": status.epoch,
        "ready": int(status.ready),
        "reason": status.reason,
        "replication": status.replication,
        "replicas": status.replicas,
        "w": status.w,
        "r": status.r,
        "inflight": status.inflight,
        "hints": status.hints,
        "hint_bytes": status.hint_bytes,
    },
}
_WHOLE: Final = frozenset({"all", "default", "everything"})


def _info(session: Session, args: list[bytes]) -> None:
    wanted = {arg.decode("utf-8", "replace").lower() for arg in args[1:]} or _WHOLE
    door = session.door
    blocks = []
    for title, facts in SECTIONS.items():
        if wanted & _WHOLE or title.lower() in wanted:
            lines = [f"{name}:{value}" for name, value in facts(door, door.store.status()).items()]
            blocks.append("\r\n".join([f"# {title}", *lines, ""]))
    session.answer(resp.bulk("\r\n".join(blocks).encode()))


def _key_count(door: RespDoor) -> int:
    """Live keys of the cluster, about: what those last told of theirs that hold copies, divided by
    how many copies a partition has, on average: while their number changes not all have as many."""
    owners = [member for member in door.store.status().members if member.owns]
    held = sum(member.keys for member in owners)
    copies = sum(member.partitions for member in owners)
    return round(held * PARTITION_COUNT / copies) if copies else 0


def _dbsize(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.integer(_key_count(session.door)))


def _time(session: Session, _args: list[bytes]) -> None:
    seconds, milliseconds = divmod(session.store.wall_ms(), 1000)
    session.answer_value([str(seconds), str(milliseconds * 1000)])


def _wait(session: Session, args: list[bytes]) -> None:
    integer_argument(args[1])
    if integer_argument(args[2]) < 0:
        raise CommandError("ERR timeout is negative")
    if session.acks_min != ACKS_NONE:
        session.acks_before = session.acks_min
        session.acks_min = ACKS_NONE
    acks = session.acks_before
    if acks == ACKS_NONE:
        acks = session.door.topology().n
    session.answer(resp.integer(acks - 1))


def _lastsave(session: Session, _args: list[bytes]) -> None:
    # What was acknowledged is stored already.
    session.answer(resp.integer(session.store.wall_ms() // 1000))


def _role(session: Session, _args: list[bytes]) -> None:
    session.answer_value(["master", 0, []])


def _settings(store: Store) -> dict[str, str]:
    """What is in force, by the names of Redis's settings."""
    config, status = store.config, store.status()
    return {
        "appendfsync": "always" if config.durability == "sync" else "no",
        "appendonly": "yes",
        "cluster-enabled": "yes",
        "databases": "1",
        "latency-monitor-threshold": "0",
        "maxclients": str(config.connections_max),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "",
        "port": str(config.port),
        "proto-max-bulk-len": str(config.value_bytes_max),
        "quorate-r": str(status.r),
        "quorate-w": str(status.w),
        "save": "",
        "slowlog-log-slower-than": "-1",
        "slowlog-max-len": "0",
        "timeout": str(-(-config.idle_timeout_ms // 1000)),
    }


_NUMBER: Final = re.compile(rb"-?[0-9]{1,19}")
_CHANGE_NOTHING: Final = frozenset(
    {
        # At most so many are kept, and none are.
        "slowlog-max-len",
        # How values are stored of types that are not to be had here.
        "hash-max-listpack-entries",
        "hash-max-listpack-value",
        "hash-max-ziplist-entries",
        "hash-max-ziplist-value",
        "list-max-listpack-size",
        "list-max-ziplist-size",
        "set-max-intset-entries",
        "set-max-listpack-entries",
        "set-max-listpack-value",
        "zset-max-listpack-entries",
        "zset-max-listpack-value",
        "zset-max-ziplist-entries",
        "zset-max-ziplist-value",
    }
)
"""Settings of Redis that are true here whatever their number."""
_NOT_DONE: Final = {
    "latency-monitor-threshold": "latencies are not kept",
    "notify-keyspace-events": "no events of keys are sent",
    "slowlog-log-slower-than": "slow commands are not kept",
}
"""Settings that ask for what is not done here, but for one value, and why they are refused."""


def _check_setting(name: str, value: bytes, settings: Mapping[str, str]) -> None:
    """CommandError unless it is so already, or changes nothing."""
    failed = f"ERR CONFIG SET failed (possibly related to argument '{name}') -"
    known = settings.get(name.lower())
    if name.lower() in _CHANGE_NOTHING:
        if not _NUMBER.fullmatch(value):
            raise CommandError(f"{failed} it is a whole number")
    elif known is None:
        raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
    elif known.encode() != value:
        why = _NOT_DONE.get(name.lower())
        if why is not None:
            raise CommandError(f"{failed} {why}: it is '{known}'")
        raise CommandError(
            f"{failed} can't set immutable config: it is '{known}' while the node runs"
        )


def _config_set(session: Session, args: list[bytes]) -> None:
    """OK if all is so already, or changes nothing: what is in force is not changed while the node
    runs."""
    if len(args) % 2:
        raise CommandError("ERR wrong number of arguments for 'config|set' command")
    settings = _settings(session.store)
    for name, value in zip(args[2::2], args[3::2], strict=True):
        _check_setting(quote(name), value, settings)
    session.answer(resp.OK)


def _config_resetstat(session: Session, _args: list[bytes]) -> None:
    # What /metrics shows goes on: to Prometheus a counter that fell is a node that began anew.
    door = session.door
    door.counts_before = dict(_counts(door, door.store.status()))
    session.answer(resp.OK)


def _config_get(session: Session, args: list[bytes]) -> None:
    if len(args) > 2 + CONFIG_PATTERNS_MAX:
        raise CommandError(f"ERR at most {CONFIG_PATTERNS_MAX} patterns")
    patterns = [pattern_argument(each, bytes_max=NAME_PATTERN_BYTES_MAX) for each in args[2:]]
    globs = [compile_glob(pattern.lower()) for pattern in patterns]
    session.answer_value(
        {
            name: value
            for name, value in _settings(session.store).items()
            if any(glob.fullmatch(name.encode()) for glob in globs)
        }
    )


_fact = partial(Command, group="server", role=Role.USER)
_admin = partial(Command, group="server", role=Role.ADMIN)
_alone = partial(Command, group="generic", role=Role.USER, access=Access.ALONE)

COMMANDS: Final = (
    _fact("info", -1, _info, "Get facts about the node"),
    _alone(
        "dbsize", 1, _dbsize, "Get about how many keys there are", role=Role.READ, group="server"
    ),
    _fact("lastsave", 1, _lastsave, "Get when all was stored, which is now"),
    _fact("role", 1, _role, "Get `master`, as any node takes writes", "2.8.12"),
    _fact("time", 1, _time, "Get the node's clock"),
    _alone("wait", 3, _wait, "Get how many more copies this client's writes surely have", "3.0.0"),
    container(
        "config",
        summary="Commands about settings",
        group="server",
        subcommands=(
            _admin(
                "config|set",
                -4,
                audited(_config_set, "config|set"),
                "Accepted if it changes nothing",
                "2.0.0",
            ),
            _admin(
                "config|resetstat",
                2,
                audited(_config_resetstat, "config|resetstat"),
                "Begin INFO's counters anew",
                "2.0.0",
            ),
            _admin("config|get", -3, _config_get, "Get the settings that match patterns", "2.0.0"),
        ),
    ),
)
