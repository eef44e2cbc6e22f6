# SPDX-License-Identifier: GPL-3.0-or-later
"""CLUSTER: the layout in Redis Cluster's words, so that its clients go straight to a replica.

Any node serves any key, so what is called master here is only the replica to ask first: the first
of the partition's list that this node reaches. Nothing is ever redirected. Who cannot be reached is
left out of SLOTS and flagged in NODES and SHARDS, as Redis does with replicas and masters that
failed: clients connect to whoever is named as usable, and some fail altogether if they cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from quorate.core.values.events import SCAN_ROWS_MAX, ScanResult
from quorate.core.values.slots import (
    SLOT_COUNT,
    SLOTS_PER_PARTITION,
    partition_bounds,
    slot_of,
)
from quorate.doors.access import Role
from quorate.doors.limits import no_room_for_reply
from quorate.doors.redis.command import Command, container, integer_argument
from quorate.doors.redis.scan import Walk
from quorate.doors.redis.session import CommandError, RespDoor, Session
from quorate.notation import split_url
from quorate.wire import resp

SLOT_KEYS_MAX: Final = 10_000


class Range(NamedTuple):
    """Neighbouring slots with the same replicas, in the order to ask them. `end` is inclusive."""

    start: int
    end: int
    replicas: tuple[str, ...]


def ranges(door: RespDoor) -> list[Range]:
    """All slots, as few ranges as can be, replicas that are reached first."""
    topology = door.topology()
    away = _unreached(door)
    found: list[Range] = []
    for partition, replicas in enumerate(topology.partitions):
        urls = tuple(sorted(replicas.urls, key=away.__contains__))
        start = partition * SLOTS_PER_PARTITION
        if found and found[-1].replicas == urls:
            start = found.pop().start
        found.append(Range(start, (partition + 1) * SLOTS_PER_PARTITION - 1, urls))
    return found


def _unreached(door: RespDoor) -> dict[str, str]:
    """The URLs of nodes that this one does not reach, with Redis's flag for them: a link that was
    lost, or is not made yet, is a possible failure, and misses in a row are one."""
    flags = {"down": "fail", "connecting": "fail?"}
    members = door.store.status().members
    return {member.url: flags[member.state] for member in members if member.state in flags}


def _answer(session: Session, name: str, make: Callable[[], object]) -> None:
    """Answer with what `make` makes: it is kept for a while, unless others are reached by then."""
    door = session.door
    kept_as = name + repr(sorted(_unreached(door))) + repr(sorted(_for_clients(door).items()))
    session.answer(door.reply(name, session.protocol, make, of=kept_as))


def node_id(url: str) -> str:
    """40 hexadecimal digits that stand for a node in Redis's replies, the same on every node."""
    return hashlib.blake2b(url.encode(), digest_size=20).hexdigest()


def _for_clients(door: RespDoor) -> dict[str, str]:
    """The URLs that clients are told of nodes that have another one for them."""
    return {each.url: each.client for each in door.store.status().members if each.client}


def _address(url: str, for_clients: dict[str, str]) -> tuple[str, int]:
    return split_url(for_clients.get(url, url))


def _slots(session: Session, _args: list[bytes]) -> None:
    def make() -> object:
        away, for_clients = _unreached(session.door), _for_clients(session.door)
        found = []
        for each in ranges(session.door):
            # If none is reached, all are named: clients try them, and need an entry for each slot.
            urls = [url for url in each.replicas if url not in away] or each.replicas
            nodes = ([*_address(url, for_clients), node_id(url), []] for url in urls)
            found.append([each.start, each.end, *nodes])
        return found

    _answer(session, "slots", make)


def _shards(session: Session, _args: list[bytes]) -> None:
    def make() -> object:
        away, for_clients = _unreached(session.door), _for_clients(session.door)
        shards: dict[tuple[str, ...], list[int]] = {}
        for each in ranges(session.door):
            shards.setdefault(each.replicas, []).extend((each.start, each.end))
        return [
            {
                "slots": slots,
                "nodes": [_shard_node(_address(url, for_clients), url, urls, away) for url in urls],
            }
            for urls, slots in shards.items()
        ]

    _answer(session, "shards", make)


def _shard_node(
    address: tuple[str, int], url: str, urls: tuple[str, ...], away: dict[str, str]
) -> dict[str, object]:
    host, port = address
    return {
        "id": node_id(url),
        "port": port,
        "ip": host,
        "endpoint": host,
        "role": "master" if url == urls[0] else "replica",
        "replication-offset": 0,
        "health": "fail" if url in away else "online",
    }


def _nodes(session: Session, _args: list[bytes]) -> None:
    door = session.door

    def make() -> object:
        status = door.store.status()
        away, for_clients = _unreached(door), _for_clients(door)
        spans: dict[str, list[str]] = {}
        for each in ranges(door):
            spans.setdefault(each.replicas[0], []).append(f"{each.start}-{each.end}")
        lines = []
        for url in door.topology().urls:
            host, port = _address(url, for_clients)
            mine = "myself," if url == status.url else ""
            fail = f",{away[url]}" if url in away else ""
            link = "disconnected" if url in away else "connected"
            words = [node_id(url), f"{host}:{port}@{port}", f"{mine}master{fail}", "- 0 0"]
            lines.append(" ".join([*words, str(status.epoch), link, *spans.get(url, [])]))
        return "\n".join([*lines, ""])

    _answer(session, "nodes", make)


def _info(session: Session, _args: list[bytes]) -> None:
    topology, status = session.door.topology(), session.door.store.status()
    facts = {
        "cluster_enabled": 1,
        "cluster_state": "ok" if status.ready else "fail",
        "cluster_slots_assigned": SLOT_COUNT,
        "cluster_slots_ok": SLOT_COUNT,
        "cluster_slots_pfail": 0,
        "cluster_slots_fail": 0,
        "cluster_known_nodes": len(topology.urls),
        "cluster_size": len(topology.urls),
        "cluster_current_epoch": status.epoch,
        "cluster_my_epoch": status.epoch,
    }
    text = "".join(f"{name}:{value}\r\n" for name, value in facts.items())
    session.answer(resp.bulk(text.encode()))


def _myid(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.bulk(node_id(session.door.store.status().url).encode()))


def _keyslot(session: Session, args: list[bytes]) -> None:
    session.answer(resp.integer(slot_of(args[2])))


class _SlotWalk(Walk):
    """The keys of one slot: their count, or the first `limit` of them."""

    __slots__ = ("_count", "_end", "_found", "_limit", "_slot")

    def __init__(self, session: Session, slot: int, *, limit: int | None) -> None:
        start, self._end = partition_bounds(slot // SLOTS_PER_PARTITION)
        self._slot = slot
        self._limit = limit
        self._count = 0
        self._found: list[bytes] = []
        super().__init__(session, prefix=b"", cursor=start, page_rows=SCAN_ROWS_MAX)

    def take(self, page: ScanResult) -> None:
        inside = [row for row in page.rows if row.row < self._end]
        keys = [key for key in self.live(inside) if slot_of(key) == self._slot]
        self._count += len(keys)
        if self._limit is not None:
            self._found += keys
            if not self.hold(sum([len(key) for key in keys])):
                self.fail(no_room_for_reply())
                return
        if self._limit is not None and len(self._found) >= self._limit:
            self.resolve(resp.encode(self._found[: self._limit], self.session.protocol))
        elif page.cursor and page.cursor < self._end and len(inside) == len(page.rows):
            self.go_on(page.cursor)
        elif self._limit is None:
            self.resolve(resp.integer(self._count))
        else:
            self.resolve(resp.encode(self._found, self.session.protocol))


def _slot_argument(argument: bytes) -> int:
    slot = integer_argument(argument)
    if not 0 <= slot < SLOT_COUNT:
        raise CommandError("ERR Invalid slot")
    return slot


def _countkeysinslot(session: Session, args: list[bytes]) -> None:
    _SlotWalk(session, _slot_argument(args[2]), limit=None)


def _getkeysinslot(session: Session, args: list[bytes]) -> None:
    count = integer_argument(args[3])
    if count < 0:
        raise CommandError("ERR Invalid number of keys")
    _SlotWalk(session, _slot_argument(args[2]), limit=min(count, SLOT_KEYS_MAX))


_fact = partial(Command, group="cluster", role=Role.USER, since="3.0.0")
_keys_of = partial(Command, group="cluster", role=Role.READ, since="3.0.0")

COMMANDS: Final = (
    container(
        "cluster",
        summary="Commands about where keys belong",
        group="cluster",
        subcommands=(
            _fact("cluster|slots", 2, _slots, "List slot ranges with the nodes to ask"),
            _fact(
                "cluster|shards", 2, _shards, "List groups of slots with their nodes", since="7.0.0"
            ),
            _fact("cluster|nodes", 2, _nodes, "List nodes with the slots to ask them for"),
            _fact("cluster|info", 2, _info, "Get facts about the cluster"),
            _fact("cluster|myid", 2, _myid, "Get this node's id"),
            _fact("cluster|keyslot", 3, _keyslot, "Get the slot of a key"),
            _keys_of("cluster|countkeysinslot", 3, _countkeysinslot, "Count the keys of a slot"),
            _keys_of("cluster|getkeysinslot", 4, _getkeysinslot, "List keys of a slot"),
        ),
    ),
)
