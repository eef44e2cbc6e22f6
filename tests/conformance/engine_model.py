# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine does, with dictionaries, and batches for both."""

from __future__ import annotations

from hypothesis import strategies as st

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.storage.engine import Engine
from tests.unit.storage.samples import EVERYTHING, RECORD

ROWS = st.sampled_from([b"\0\0\0\0" + key for key in (b"", b"a", b"a\0", b"b", b"\xff")])
NAMES = st.sampled_from([b"a", b"b", b"c\0", b"c"])
CHANGES = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=5)), max_size=4)


def ranges_of(names: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[tuple[bytes, bytes]]]:
    """A few ranges between names: mostly none, as nearly all batches drop nothing."""
    bounds = st.tuples(names, names).filter(lambda each: each[0] < each[1])
    return st.just([]) | st.lists(bounds, max_size=3)


BATCHES = st.lists(
    st.builds(
        Batch,
        st.lists(st.tuples(ROWS, RECORD), max_size=6),
        CHANGES,
        CHANGES,
        ranges_of(ROWS),
        ranges_of(NAMES),
        st.lists(st.tuples(ROWS, st.none() | st.binary(min_size=1, max_size=5)), max_size=4),
    ),
    max_size=8,
)


class Model:
    """What an engine holds, as four dictionaries."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        self.hints: dict[bytes, bytes] = {}
        self.meta: dict[bytes, bytes] = {}
        self.votes: dict[bytes, bytes] = {}

    def write(self, batch: Batch) -> None:
        for start, end in batch.dropped_rows:
            self.records = {
                row: each for row, each in self.records.items() if not start <= row < end
            }
            self.votes = {row: each for row, each in self.votes.items() if not start <= row < end}
        for start, end in batch.dropped_hints:
            self.hints = {
                name: each for name, each in self.hints.items() if not start <= name < end
            }
        for name, put in batch.records:
            self.records.pop(name, None)
            if put is not None:
                self.records[name] = put
        for family, changes in (
            (self.hints, batch.hints),
            (self.meta, batch.meta),
            (self.votes, batch.votes),
        ):
            for name, blob in changes:
                family.pop(name, None)
                if blob is not None:
                    family[name] = blob

    def agrees_with(self, engine: Engine) -> bool:
        rows = [b"\0\0\0\0" + key for key in (b"", b"a", b"a\0", b"b", b"\xff", b"missing")]
        return (
            list(engine.scan(*EVERYTHING)) == sorted(self.records.items())
            and hints_of(engine) == sorted(self.hints.items())
            and votes_of(engine) == sorted(self.votes.items())
            and [engine.get_votes(name) for name in rows] == [self.votes.get(name) for name in rows]
            and [engine.get(name) for name in rows] == [self.records.get(name) for name in rows]
            and all(engine.get_meta(name) == self.meta.get(name) for name in (b"a", b"c", b"z"))
        )


def hints_of(engine: Engine) -> list[tuple[bytes, bytes]]:
    return list(engine.scan_hints(b"", b"\xff" * 9))


def votes_of(engine: Engine) -> list[tuple[bytes, bytes]]:
    return list(engine.scan_votes(*EVERYTHING))
