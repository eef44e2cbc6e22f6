# SPDX-License-Identifier: GPL-3.0-or-later
"""No invented data (I4, I22, I23): every value that was read or is left was sent for that key.

A value says who wrote it, as which operations and to which key, under a checksum. So these show:
damaged bytes, a value under another key, one that was read before it was sent, and one of which an
operation is a part twice, or that was refused. It expires when somebody asked for. And one version
never stands for two records, which would leave replicas different for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.record import Record
from quorate.sim.history import WRITES_TOKEN, Evidence, History, Kind, Violation
from quorate.sim.tokens import Token, tokens_of


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Values that nobody sent, and versions that mean two things."""
    contents: dict[tuple[bytes, bytes], Record] = {}
    for key, record, by_ms, where in _records(history, evidence):
        fault = _fault(history, key, record, by_ms)
        if fault:
            yield Violation("I4", key, f"{where}: {fault}")
        other = contents.setdefault((key, record.version), record)
        if (other.value, other.expires_ms) != (record.value, record.expires_ms):
            told = f"{where}: version {record.version.hex()} is {other} and {record}"
            yield Violation("I4", key, told)


def _records(history: History, evidence: Evidence) -> Iterator[tuple[bytes, Record, float, str]]:
    """Everything that was read or is left: its key, the record, by when it must have been sent, and
    where it was seen."""
    for op in history.operations:
        for told in op.told:
            yield op.key, told, op.over_ms, f"told to #{op.serial} of {op.client}"
    for key, copies in evidence.settled.items():
        for node, record in copies.items():
            if record is not None:
                yield key, record, float("inf"), f"left on n{node}"


def _fault(history: History, key: bytes, record: Record, by_ms: float) -> str:
    """What is wrong with a record; empty if nothing is."""
    value = record.value
    if value is None:
        return ""
    tokens = tokens_of(value)
    if tokens is None:
        return f"nobody made {value[:60]!r}"
    if len({each.name for each in tokens}) < len(tokens):
        return f"an operation took effect twice in {value[:200]!r}"
    for place, token in enumerate(tokens):
        fault = _fault_of(history, key, token, by_ms, is_first=not place)
        if fault:
            return f"{value[:200]!r}: {fault}"
    expiries_ms = history.expiries(record, by_ms=by_ms)
    if record.expires_ms not in expiries_ms:
        return f"it expires at {record.expires_ms} instead of {expiries_ms}"
    return ""


def _fault_of(history: History, key: bytes, token: Token, by_ms: float, *, is_first: bool) -> str:
    if token.key != key:
        return f"{token} was written to {token.key!r}"
    op = history.writer_of(token)
    if op is None or op.kind not in WRITES_TOKEN:
        return f"nobody wrote {token}"
    if op.asked_ms > by_ms:
        return f"{token} was read before it was written"
    if op.kind is Kind.PUT and not is_first:
        return f"{token} was put, and stands behind another"
    if op.kind is Kind.LOCK and not is_first:
        return f"{token} is a lock that was taken where there was one"
    return f"{token} was refused" if op.is_refused else ""
