# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular to the engine in memory; the contract is in the conformance suite."""

from __future__ import annotations

from itertools import islice

from quorate.storage.memory import MemoryEngine
from tests.unit.storage.samples import EVERYTHING, batch, record, row


class Counted(bytes):
    """A row that counts how often rows are compared: the time of sorting, without a clock."""

    comparisons = 0

    def __lt__(self, other: bytes) -> bool:
        Counted.comparisons += 1
        return bytes.__lt__(self, other)


def paging_cost(*, keys: int, pages: int) -> int:
    """Comparisons made by paging through `keys` keys, while a new key comes with every page."""
    engine = MemoryEngine()
    engine.write(batch([(Counted(row(number)), record(number)) for number in range(keys)]))
    start, end = EVERYTHING
    next(engine.scan(start, end))
    before = Counted.comparisons
    for page in range(pages):
        for last, _ in islice(engine.scan(start, end), 10):
            start = last + b"\0"
        engine.write(batch([(Counted(b"\0\0\0\0new%d" % page), record(page))]))
    return Counted.comparisons - before


def test_a_page_costs_about_the_same_however_many_keys_there_are() -> None:
    assert paging_cost(keys=16_000, pages=30) < 2 * paging_cost(keys=500, pages=30)


def test_many_keys_come_and_go_between_two_scans() -> None:
    engine = MemoryEngine()
    names = [b"%04d" % number for number in range(1000)]
    engine.write(batch(hints=[(name, b"x") for name in names]))
    assert [name for name, _ in engine.scan_hints(b"", b"~")] == names
    engine.write(batch(hints=[(name, None) for name in names[::2]]))
    engine.write(batch(hints=[(b"new" + name, b"x") for name in names]))
    kept = names[1::2] + [b"new" + name for name in names]
    assert [name for name, _ in engine.scan_hints(b"", b"~")] == kept


def test_bytes_used_returns_to_zero_when_all_is_deleted() -> None:
    engine = MemoryEngine()
    engine.write(batch(hints=[(b"a", b"x" * 1000)], meta=[(b"b", b"y")]))
    assert engine.bytes_used() > 1000
    engine.write(batch(hints=[(b"a", None), (b"gone", None)], meta=[(b"b", None)]))
    assert engine.bytes_used() == 0


def test_bytes_used_returns_to_zero_when_all_is_dropped() -> None:
    engine = MemoryEngine()
    engine.write(batch([(row(1), record(1)), (row(2), record(2))], hints=[(b"a", b"x" * 1000)]))
    engine.write(batch(dropped_rows=[EVERYTHING], dropped_hints=[(b"a", b"b")]))
    assert engine.bytes_used() == 0
