# SPDX-License-Identifier: GPL-3.0-or-later
"""A log of hints alone, with two peers, for tests of it."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.core.exchanges.hints import Hints
from quorate.core.replica import Replica
from quorate.core.turn import Turn
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.sim.disk import Disk
from quorate.storage.memory import MemoryEngine
from tests.unit.core.parts import Box, reachable

A, B = "http://a:1", "http://b:1"


class Log:
    """A hint log on a disk, with the runtime's part."""

    def __init__(
        self,
        *,
        bytes_max: int = 1 << 30,
        disk: Disk | None = None,
        engine: MemoryEngine | None = None,
    ) -> None:
        self.disk = disk or Disk()
        self.engine = engine or self.disk
        self.turn = Turn()
        self.replica = Replica(self.engine, lambda _: None)
        self.hints = Hints(
            engine=self.engine, replica=self.replica, turn=self.turn, bytes_max=bytes_max
        )
        self.boxes = {url: Box(url, i, turn=self.turn) for i, url in enumerate((A, B))}
        for box in self.boxes.values():
            reachable(box.peer)
            self.hints.open(box.out)
        self.turn.ring()

    def count(self, url: str) -> int:
        """Hints for the peer at `url`."""
        return self.hints.count(self.boxes[url].peer)

    def add(self, url: str, *stamps: int, value: bytes = b"v") -> None:
        """Keep records of these stamps for the peer."""
        for stamp in stamps:
            self.hints.add(
                self.boxes[url].peer, row_of(b"k%d" % stamp), Record(pack_version(stamp, 1), value)
            )

    def close(self) -> None:
        """End a step."""
        self.hints.close_turn()
        batch, _ = self.replica.close_turn()
        if batch is not None:
            self.engine.write(batch)

    def replay(self, url: str) -> list[int]:
        """Give the peer its next hints; their stamps."""
        self.hints.replay(self.boxes[url].peer)
        return self.sent(url)

    def sent(self, url: str) -> list[int]:
        """The stamps of what was said to the peer."""
        return [
            int(row.rpartition(b"k")[2])
            for message in self.boxes[url].out.collect()
            if isinstance(message, Mutate)
            for row, _ in message.items
        ]

    def ack(
        self, url: str, *, busy: bool = False, refused: int = 0, fenced: Sequence[int] = ()
    ) -> None:
        """The peer answers what is under way; `fenced`: of which a lock keeps it out, by place."""
        batch = next(iter(self.boxes[url].out.sent))
        reasons = [(index, "no") for index in range(refused)]
        bounds = [(index, pack_version(1, 0)) for index in fenced]
        self.boxes[url].out.on_answer(Mutated(batch, [], reasons, busy, fenced=bounds))

    def stored(self) -> list[bytes]:
        """All hints that the engine has."""
        return [blob for _, blob in self.engine.scan_hints(b"", b"\xff" * 17)]
