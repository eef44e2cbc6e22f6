# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands about the node: INFO, CONFIG GET, TIME, DBSIZE, WAIT.

WAIT answers at once, with what is known for certain: one less (Redis does not count the primary's
copy) than the fewest copies that any write of this client since its last WAIT was acknowledged
with. Nothing is waited for, because a write is only answered once W replicas have it; more may hold
it by then. Without such writes: what the WAIT before said, and before the first write the number of
copies that a key has, less one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.core.values.status import Status
from quorate.doors.access import Role
from quorate.doors.redis.clients import REDIS_VERSION
from quorate.doors.redis.command import (
    Access,
    Command,
    container,
    integer_argument,
    pattern_argument,
)
from quorate.doors.redis.glob import compile_glob
from quorate.doors.redis.session import ACKS_NONE, CommandError, RespDoor, Session
from quorate.wire import resp

InfoFacts = dict[str, int | str]


def _server(door: RespDoor, status: Status) -> InfoFacts:
    uptime = max(door.store.wall_ms() - door.started_ms, 0) // 1000
    return {
        "redis_version": REDIS_VERSION,
        "quorate_version": status.version,
        "redis_mode": "standalone",
        "os": sys.platform,
        "process_id": os.getpid(),
        "run_id": status.id,
        "tcp_port": door.store.config.port,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime // 86400,
    }


def _keyspace(door: RespDoor, _status: Status) -> InfoFacts:
    keys = _key_count(door)
    return {"db0": f"keys={keys},expires=0,avg_ttl=0"} if keys else {}


SECTIONS: Final[dict[str, Callable[[RespDoor, Status], InfoFacts]]] = {
    "Server": _server,
    "Clients": lambda door, _status: {
        "connected_clients": len(door.sessions),
        "maxclients": door.store.config.connections_max,
        "blocked_clients": 0,
    },
    "Memory": lambda _door, status: {
        "used_memory_dataset": status.bytes,
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    },
    "Persistence": lambda _door, status: {"loading": 0 if status.ready else 1, "aof_enabled": 1},
    "Stats": lambda door, status: {
        "total_connections_received": door.connections_received,
        "total_commands_processed": door.commands_processed,
        **status.counters,
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
            lines = [f"{name}:{value}" for name, value in facts(door, door.status()).items()]
            blocks.append("\r\n".join([f"# {title}", *lines, ""]))
    session.answer(resp.bulk("\r\n".join(blocks).encode()))


def _key_count(door: RespDoor) -> int:
    """Live keys of the cluster, about: what the nodes last told of theirs, divided by copies."""
    status = door.status()
    held = [member.keys for member in status.members if member.state != "self"]
    return round((sum(held) + status.keys) / max(status.replicas, 1))


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


def _config_get(session: Session, args: list[bytes]) -> None:
    config = session.store.config
    settings = {
        "appendfsync": "always" if config.durability == "sync" else "no",
        "appendonly": "yes",
        "cluster-enabled": "yes",
        "databases": "1",
        "maxclients": str(config.connections_max),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "port": str(config.port),
        "proto-max-bulk-len": str(config.value_bytes_max),
        "save": "",
        "timeout": "0",
    }
    globs = [compile_glob(pattern_argument(each).lower()) for each in args[2:]]
    session.answer_value(
        {
            name: value
            for name, value in settings.items()
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
    _fact("time", 1, _time, "Get the node's clock"),
    _alone("wait", 3, _wait, "Get how many more copies this client's writes surely have", "3.0.0"),
    container(
        "config",
        summary="Commands about settings",
        group="server",
        subcommands=(
            _admin("config|get", -3, _config_get, "Get the settings that match patterns", "2.0.0"),
        ),
    ),
)
