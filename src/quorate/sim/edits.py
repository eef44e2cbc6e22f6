# SPDX-License-Identifier: GPL-3.0-or-later
"""What each kind of read-modify-write makes of what it finds (`events.Edit`)."""

from __future__ import annotations

from quorate.core.values.events import Edited
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.sim.history import KEEPS_EXPIRY, ClientOperation, Kind
from quorate.sim.tokens import behind


class OperationEdit:
    """The edit of an operation. A store knows by its version what the client saw; who has no
    versions, by value and expiry."""

    __slots__ = ("_by_version", "_expires_ms", "_key", "_kind", "_name", "_seen")

    def __init__(self, op: ClientOperation, *, by_version: bool = True) -> None:
        # Not the operation: its result may be an error, whose traceback knows the whole world, and
        # a node that never answers holds the edit (`Clients.close`).
        self._kind = op.kind
        self._name = op.name
        self._key = op.key
        self._expires_ms = op.expires_ms
        self._seen = op.seen
        self._by_version = by_version

    def __repr__(self) -> str:
        return self._kind.value

    def __call__(self, found: Record | None) -> Edited | None:
        """What it makes of a live record."""
        kind, expires_ms = self._kind, self._expires_ms
        if kind in (Kind.CAS, Kind.UNLOCK) and not self._is_seen(found):
            return None
        if kind is Kind.LOCK and found is not None:
            return None
        if kind in (Kind.GETDEL, Kind.UNLOCK):
            return None if found is None else Edited(None)
        if kind is Kind.EXPIRE:
            if found is None or not (expires_ms or found.expires_ms):
                return None
            return Edited(found.value, expires_ms)
        value = None if found is None else found.value
        kept_ms = 0 if found is None else found.expires_ms
        return Edited(
            behind(value, self._name, self._key, counts=int(kind is Kind.INCREMENT)),
            kept_ms if kind in KEEPS_EXPIRY else expires_ms,
        )

    def _is_seen(self, found: Record | None) -> bool:
        seen = self._seen
        if self._by_version:
            return _version_of(found) == _version_of(seen)
        return _content_of(found) == _content_of(seen)


def _version_of(record: Record | None) -> bytes:
    return ABSENT if record is None else record.version


def _content_of(record: Record | None) -> tuple[bytes | None, int]:
    return (None, 0) if record is None else (record.value, record.expires_ms)
