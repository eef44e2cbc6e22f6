# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of keys has what was there throughout, and nothing older or gone (I34).

Whatever a page lists is live, is of a version that some client may have written by then, and is
none of which it is known that it deleted the key, or had expired. Keys come in the order of their
rows, each once, between the cursors, and no more than were asked for; and a page comes forward.

Pages that say they are complete are judged further, one key at a time. Of the writes that the
page's R meets and that were over before it was asked, the newest decides: what the page tells of
the key is not older; and a key whose newest write leaves it live is on the page, unless something
that was not over by then may have taken it away. Once all replicas can be read each page is
complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quorate.core.values.events import ScanResult
from quorate.core.values.messages import ScannedRow
from quorate.core.values.record import Record, has_expired
from quorate.core.values.slots import key_of, row_of
from quorate.errors import QuorateError
from quorate.sim.history import ClientOperation, Evidence, History, Kind, Page, Violation

_KEEPS: Final = frozenset((Kind.GET, Kind.APPEND, Kind.INCREMENT))
"""After which what was live is live still."""


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Pages that are not what they say."""
    by_key = history.by_key()
    for page in history.pages:
        result = page.result
        is_complete = isinstance(result, ScanResult) and result.complete
        if page.asked_ms >= evidence.whole_from_ms and not is_complete:
            yield Violation("I34", page.key, f"{page}: every replica can be read")
        if not isinstance(result, ScanResult):
            continue
        yield from _misshapen(page, result)
        listed = {key_of(each.row): each for each in result.rows}
        for key in sorted({*listed, *by_key}):
            told = ""
            if key in by_key and key in listed:
                told = _untrue(page, listed[key], by_key[key], evidence)
            elif key in listed and key not in evidence.replicas:
                told = f"lists {listed[key]}, which no client wrote"
            elif not _is_covered(row_of(key), page, result):
                continue
            if key in by_key and is_complete:
                told = told or _wrong(page, listed.get(key), key, by_key[key], evidence)
            if told:
                yield Violation("I34", key, f"{page} {told}")


def _is_covered(row: bytes, page: Page, result: ScanResult) -> bool:
    return page.cursor < row and (not result.cursor or row <= result.cursor)


def _misshapen(page: Page, result: ScanResult) -> Iterator[Violation]:
    rows = [each.row for each in result.rows]
    if rows != sorted(set(rows)) or len(rows) > page.limit:
        yield Violation("I34", page.key, f"{page}: too many keys, or out of order")
    if result.cursor and result.cursor <= page.cursor:
        yield Violation("I34", page.key, f"{page}: does not come forward")
    for row in rows:
        if not _is_covered(row, page, result):
            yield Violation("I34", key_of(row), f"{page}: not between its cursors")


def _untrue(
    page: Page, listed: ScannedRow, operations: list[ClientOperation], evidence: Evidence
) -> str:
    """Why what a page lists of a key is not so, whatever else was there; empty if it may be."""
    since_ms = evidence.epoch_ms + int(page.asked_ms) - evidence.wall_skew_ms
    wrote = [op.wrote for op in operations if op.wrote and op.wrote.version == listed.version]
    if not listed.live or any(each.value is None for each in wrote):
        return f"lists {listed}, which is deleted"
    expiries = [listed.expires_ms, *[each.expires_ms for each in wrote]]
    if any(has_expired(each, wall_ms=since_ms) for each in expiries):
        return f"lists {listed}, which had expired"
    begun = (op for op in operations if op.asked_ms <= page.over_ms)
    if not any(op.may_have_stamped(listed.version) for op in begun):
        return f"lists {listed}, which no client wrote"
    return ""


def _wrong(
    page: Page,
    listed: ScannedRow | None,
    key: bytes,
    operations: list[ClientOperation],
    evidence: Evidence,
) -> str:
    read = page.as_read(key)
    if read.over_ms > evidence.forgot_ms.get(key, float("inf")) or evidence.met_loss(read):
        return ""
    newest: Record | None = None
    for op in operations:
        wrote = op.wrote
        if wrote is None or op.over_ms >= page.asked_ms or not evidence.do_overlap(read, op):
            continue
        if newest is None or wrote.version > newest.version:
            newest = wrote
    if newest is None:
        return ""
    if listed is not None:
        is_old = listed.version < newest.version
        return f"lists {listed}, older than {newest}" if is_old else ""
    if newest.value is None or newest.expires_ms:
        return ""
    if any(_may_take_away(op, newest, page) for op in operations):
        return ""
    return f"does not list {newest}"


def _may_take_away(op: ClientOperation, newest: Record, page: Page) -> bool:
    """Whether a write may have made a key, whose newest write left it live, no longer live by the
    end of the page: it is not known to be over before the page, or may not be older."""
    if op.kind in _KEEPS or op.is_refused or op.asked_ms > page.over_ms:
        return False
    if op.kind in (Kind.PUT, Kind.CAS) and not op.expires_ms:
        return False
    if op.over_ms >= page.asked_ms or isinstance(op.result, QuorateError):
        return True
    return op.wrote is not None and op.wrote.version > newest.version
