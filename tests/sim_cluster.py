# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of real nodes in virtual time: same seed, same run.

Real are `core.node.Node`, the frame codec and the memory engine; modelled are links (`sim_world`),
disks, clocks and the death of processes (`sim_host`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from quorate.core.events import (
    Batch,
    Effects,
    Event,
    Explain,
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Scan,
    Waiter,
)
from quorate.core.layout import first_layout
from quorate.core.membership import LAYOUT_META
from quorate.core.messages import Frame
from quorate.core.node import Node
from quorate.core.parts import Settings
from quorate.core.record import Record
from quorate.core.slots import partition_of, row_of
from tests.sim_host import Disk, Host
from tests.sim_world import Limits, Link, World

T = TypeVar("T")


def url_of(index: int) -> str:
    """The URL of host `index`."""
    return f"http://n{index}:1"


@functools.cache
def _encoded_layout(nodes: tuple[str, ...], replication: int) -> bytes:
    return first_layout(nodes, replication=replication).encode()


def settings_of(index: int, nodes: Iterable[int], **changes: Any) -> Settings:
    """Settings of node `index`: the product's defaults, but for `changes`."""
    defaults = Settings(
        url=url_of(index),
        node_id=index + 1,
        version="0.0.0",
        cluster="quorate",
        nodes=tuple(url_of(i) for i in nodes),
        replication=3,
        w=0,
        r=0,
        timeout_ms=5_000,
        write_wait_ms=3_000,
        heartbeat_ms=2_000,
        down_after=3,
        max_clock_skew_ms=1_000,
        hint_bytes_max=256 << 20,
        inflight_max=50_000,
        inflight_bytes_max=256 << 20,
        value_bytes_max=8 << 20,
        key_bytes_max=1024,
    )
    return msgspec.structs.replace(defaults, **changes)


class Handle:
    """A request and what became of it; `result` stays None if its coordinator died."""

    def __init__(self, world: World) -> None:
        self.asked_ms = world.now
        self.done_ms: float | None = None
        self.result: Result | None = None
        self.then: Callable[[], None] | None = None
        """Called with the answer."""
        self._world = world

    def done(self, result: Result) -> None:
        """Take the result; a second one is a fault of the node."""
        assert self.result is None, f"answered twice: {self.result}, then {result}"
        self.result = result
        self.done_ms = self._world.now
        if self.then is not None:
            self.then()

    @property
    def took_ms(self) -> float:
        """From asking to the answer."""
        assert self.done_ms is not None, "not answered"
        return self.done_ms - self.asked_ms

    def of(self, kind: type[T]) -> T:
        """The result, which must be a `kind`."""
        assert isinstance(self.result, kind), f"{self.result!r} where {kind.__name__} belongs"
        return self.result


class SimCluster:
    """`count` hosts in one world, all started, and linked by the time the constructor returns.

    `nodes` gives hosts another `-nodes` list than all of them; disks are then blank, else they hold
    the layout, which saves every node computing it.
    """

    def __init__(
        self,
        seed: int = 0,
        count: int = 3,
        *,
        nodes: dict[int, Sequence[int]] | None = None,
        latency_ms: Limits = (1.0,),
        cache_entries: int = 0,
        **settings: Any,
    ) -> None:
        self.world = World(seed)
        self.latency_ms = latency_ms
        self.sends: list[tuple[str, str, Frame]] = []
        """Source, target and content of every frame that was sent."""
        self._story: list[object] = []
        self._links: dict[tuple[str, str], Link] = {}
        self.hosts: list[Host] = []
        for index in range(count):
            listed = range(count) if nodes is None else nodes.get(index, range(count))
            chosen = settings_of(index, listed, **settings)
            self.hosts.append(Host(self.world, chosen, self._perform))
        self._by_url = {host.url: host for host in self.hosts}
        for host in self.hosts:
            host.cache_entries = cache_entries
            if nodes is None:
                self._format(host)
            host.start()
        if nodes is None:
            self.run_until(self.is_connected, 1_000)

    # --- requests --------------------------------------------------------------------------

    def ask(self, index: int, make: Callable[[Waiter], Event]) -> Handle:
        """Give node `index` the request that `make` builds."""
        handle = Handle(self.world)
        self.hosts[index].receive(make(handle))
        return handle

    def put(self, index: int, key: bytes, value: bytes | None, **options: Any) -> Handle:
        """Write through node `index`; None deletes."""
        return self.ask(index, lambda waiter: Put(waiter, key, value, **options))

    def get(self, index: int, key: bytes, **options: Any) -> Handle:
        """Read through node `index`."""
        return self.ask(index, lambda waiter: Get(waiter, key, **options))

    def scan(self, index: int, **options: Any) -> Handle:
        """List through node `index`."""
        return self.ask(index, lambda waiter: Scan(waiter, **options))

    def explain(self, index: int, key: bytes, **options: Any) -> Handle:
        """Ask node `index` about a key."""
        return self.ask(index, lambda waiter: Explain(waiter, key, **options))

    def finish(self, *handles: Handle, deadline_ms: float = 60_000) -> None:
        """Run until all are answered."""
        self.run_until(lambda: all(each.result is not None for each in handles), deadline_ms)

    def must_put(self, index: int, key: bytes, value: bytes | None, **options: Any) -> PutResult:
        """Write, and wait for success."""
        handle = self.put(index, key, value, **options)
        self.finish(handle)
        return handle.of(PutResult)

    def must_get(self, index: int, key: bytes, **options: Any) -> GetResult:
        """Read, and wait for success."""
        handle = self.get(index, key, **options)
        self.finish(handle)
        return handle.of(GetResult)

    def value(self, index: int, key: bytes, **options: Any) -> bytes | None:
        """What a reader gets; None if there is nothing."""
        record = self.must_get(index, key, **options).record
        return None if record is None else record.value

    # --- time ------------------------------------------------------------------------------

    def run(self, ms: float) -> None:
        """Let `ms` milliseconds pass."""
        self.world.run_until(lambda: False, self.world.now + ms)

    def run_until(self, condition: Callable[[], object], deadline_ms: float = 60_000) -> None:
        """Go on until the condition holds; AssertionError if it does not in time."""
        met = self.world.run_until(condition, self.world.now + deadline_ms)
        assert met, f"seed {self.world.seed}: still waiting after {deadline_ms} ms"

    # --- faults ----------------------------------------------------------------------------

    def kill(self, index: int) -> None:
        """End a process at once, as kill -9 and power loss do."""
        host = self.hosts[index]
        host.crash()
        for (source, target), link in self._links.items():
            if source == host.url:
                link.hang_up()
            elif target == host.url:
                link.reset(is_target_dead=True)

    def restart(self, index: int, *, is_empty: bool = False) -> None:
        """Start a killed node again, on its old disk or an empty one."""
        host = self.hosts[index]
        if is_empty:
            host.disk = Disk()
            self._format(host)
        host.start()

    def pause(self, index: int) -> None:
        """Stop a process without ending it (SIGSTOP)."""
        self.hosts[index].is_paused = True

    def resume(self, index: int) -> None:
        """Let a paused process go on (SIGCONT)."""
        self.hosts[index].resume()

    def cut(self, source: int, target: int) -> None:
        """Let nothing through in one direction."""
        self.link(url_of(source), url_of(target)).cut()

    def split(self, *sides: Sequence[int]) -> None:
        """Cut every link between hosts of different sides."""
        for source, target, is_across in self._pairs(sides):
            if is_across:
                self.cut(source, target)

    def reset_cut_links(self) -> None:
        """Break the links that are cut, as time-outs do: both sides know, and cannot dial."""
        for link in self._links.values():
            if link.is_cut:
                link.reset()

    def heal(self) -> None:
        """End all cuts."""
        for link in self._links.values():
            link.heal()

    def _pairs(self, sides: Sequence[Sequence[int]]) -> Iterable[tuple[int, int, bool]]:
        side_of = {index: number for number, side in enumerate(sides) for index in side}
        for source in side_of:
            for target in side_of:
                yield source, target, side_of[source] != side_of[target]

    # --- looking ---------------------------------------------------------------------------

    def node(self, index: int) -> Node:
        """The node that runs on a host."""
        return self.hosts[index].node

    def link(self, source: str, target: str) -> Link:
        """The link from one URL to another."""
        link = self._links.get((source, target))
        if link is None:
            ends = self._by_url[source], self._by_url[target]
            link = self._links[source, target] = Link(self.world, *ends, self.latency_ms)
        return link

    def links(self) -> list[Link]:
        """All links there are."""
        return list(self._links.values())

    def is_connected(self) -> bool:
        """Whether every running node can ask every other that runs."""
        running = {host.url: host.node for host in self.hosts if host.is_running}
        return all(
            node.membership.peers[url].is_reachable
            for own_url, node in running.items()
            for url in running
            if url != own_url
        )

    def replicas(self, key: bytes) -> list[int]:
        """The hosts that hold a key, in order of preference."""
        layout = next(host.node.membership.layout for host in self.hosts if host.is_running)
        assert layout is not None
        urls = layout.replicas(partition_of(row_of(key)))
        return [self.hosts.index(self._by_url[url]) for url in urls]

    def held(self, index: int, key: bytes) -> Record | None:
        """What a host's disk holds of a key, durable or not."""
        return self.hosts[index].disk.get(row_of(key))

    def counter(self, name: str) -> int:
        """The sum of a counter over all running nodes."""
        return sum(h.node.parts.turn.counters[name] for h in self.hosts if h.is_running)

    def digest(self) -> str:
        """A hash of all that every node did so far."""
        return hashlib.blake2b(repr(self._story).encode(), digest_size=16).hexdigest()

    # --- inside ----------------------------------------------------------------------------

    def _format(self, host: Host) -> None:
        layout = _encoded_layout(host.settings.nodes, host.settings.replication)
        host.disk.format(Batch([], [], [(LAYOUT_META, layout)]))

    def _perform(self, host: Host, effects: Effects) -> None:
        results = [result for _, result in effects.answers]
        self._story.append((self.world.now, host.url, effects.mark, effects.sends, results))
        for url, messages in effects.sends.items():
            frame = Frame(*host.node.frame_header(), messages)
            self.sends.append((host.url, url, frame))
            self.link(host.url, url).send(frame)
        for waiter, result in effects.answers:
            waiter.done(result)
        for url in effects.peers or ():
            if url in self._by_url:
                self.link(host.url, url).dial()
