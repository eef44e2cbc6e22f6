# SPDX-License-Identifier: GPL-3.0-or-later
"""No invented data (I4, I22, I23): every value that was read or is left was sent for that key.

A value says who wrote it, as which operation and to which key, under a checksum. So three things
show: damaged bytes, a value under another key, and a value that was read before it was sent. A
derived write carries the same value on, with an expiry that somebody asked for. And one version
never stands for two records, which would leave replicas different for ever.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.sim.history import ClientOperation, Evidence, History, Kind, Violation, parse_value


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Values that nobody sent, and versions that mean two things."""
    writers = history.by_value()
    contents: dict[tuple[bytes, bytes], Record] = {}
    for key, record, by_ms, where in _records(history, evidence):
        fault = _fault(writers, key, record, by_ms)
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
        if isinstance(op.result, GetResult) and op.result.record is not None:
            yield op.key, op.result.record, op.over_ms, f"read by #{op.serial} of {op.client}"
    for key, copies in evidence.settled.items():
        for node, record in copies.items():
            if record is not None:
                yield key, record, float("inf"), f"left on n{node}"


def _fault(
    writers: dict[bytes, list[ClientOperation]], key: bytes, record: Record, by_ms: float
) -> str:
    """What is wrong with a record; empty if nothing is."""
    value = record.value
    if value is None:
        return ""
    parsed = parse_value(value)
    if parsed is None:
        return f"nobody made {value[:60]!r}"
    client, serial, meant = parsed
    if meant != key:
        return f"{value[:60]!r} was written to {meant!r}"
    writes = writers.get(value, [])
    if not any(_is_put(op, client, serial) for op in writes):
        return f"nobody wrote {value[:60]!r}"
    sent = [op for op in writes if op.asked_ms <= by_ms]
    if not any(_is_put(op, client, serial) for op in sent):
        return f"{value[:60]!r} was read before it was written"
    expires_ms = [op.expires_ms for op in sent]
    if record.expires_ms not in expires_ms:
        return f"it expires at {record.expires_ms} instead of {expires_ms}"
    return ""


def _is_put(op: ClientOperation, client: int, serial: int) -> bool:
    return op.kind is Kind.PUT and (op.client, op.serial) == (client, serial)
