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
from typing import Final

from quorate.core.values.status import Status
from quorate.doors.redis.clients import REDIS_VERSION
from quorate.doors.redis.command import Access, Command, container, integer_argument
from quorate.doors.redis.glob import PATTERN_BYTES_MAX, compile_glob
from quorate.doors.redis.session import ACKS_NONE, CommandError, RespDoor, Session
from quorate.wire import resp

Facts = dict[str, int | str]


def _server(door: RespDoor, status: Status) -> Facts:
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


def _clients(door: RespDoor, _status: Status) -> Facts:
    return {
        "connected_clients": len(door.sessions),
        "maxclients": door.store.config.connections_max,
        "blocked_clients": 0,
    }


def _memory(_door: RespDoor, status: Status) -> Facts:
    return {"used_memory_dataset": status.bytes, "maxmemory": 0, "maxmemory_policy": "noeviction"}


def _persistence(_door: RespDoor, status: Status) -> Facts:
    return {"loading": 0 if status.ready else 1, "aof_enabled": 1}


def _stats(door: RespDoor, status: Status) -> Facts:
    return {
        "total_connections_received": door.connections_received,
        "total_commands_processed": door.commands_processed,
        **status.counters,
    }


def _replication(_door: RespDoor, status: Status) -> Facts:
    others = sum(member.state == "up" for member in status.members)
    return {"role": "master", "connected_slaves": others, "master_replid": status.id}


def _cluster(_door: RespDoor, _status: Status) -> Facts:
    return {"cluster_enabled": 1}


def _keyspace(door: RespDoor, _status: Status) -> Facts:
    keys = _key_count(door)
    return {"db0": f"keys={keys},expires=0,avg_ttl=0"} if keys else {}


def _quorate(_door: RespDoor, status: Status) -> Facts:
    return {
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
    }


SECTIONS: Final[dict[str, Callable[[RespDoor, Status], Facts]]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "Cluster": _cluster,
    "Keyspace": _keyspace,
    "Quorate": _quorate,
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
        layout = session.door.layout()
        acks = min(layout.replication, len(layout.nodes))
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
    if any(len(pattern) > PATTERN_BYTES_MAX for pattern in args[2:]):
        raise CommandError("ERR pattern too long")
    globs = [compile_glob(pattern.lower()) for pattern in args[2:]]
    session.answer_value(
        {
            name: value
            for name, value in settings.items()
            if any(glob.fullmatch(name.encode()) for glob in globs)
        }
    )


COMMANDS: Final = (
    Command(name="info", arity=-1, run=_info, summary="Get facts about the node", group="server"),
    Command(
        name="dbsize",
        arity=1,
        run=_dbsize,
        summary="Get about how many keys there are",
        group="server",
        access=Access.ALONE,
    ),
    Command(name="time", arity=1, run=_time, summary="Get the node's clock", group="server"),
    Command(
        name="wait",
        arity=3,
        run=_wait,
        summary="Get how many more copies this client's writes surely have",
        group="generic",
        since="3.0.0",
        access=Access.ALONE,
    ),
    container(
        "config",
        summary="Commands about settings",
        group="server",
        subcommands=(
            Command(
                name="config|get",
                arity=-3,
                run=_config_get,
                summary="Get the settings that match patterns",
                group="server",
                since="2.0.0",
            ),
        ),
    ),
)
