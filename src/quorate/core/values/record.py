# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica holds for a key, and the one order that decides which of two records wins.

Newest wins, by `versions`; equal versions are the same write. Should two contents ever carry one
version (two processes that drew one number), `wins` still orders them the same way everywhere, so
replicas converge.

Whoever makes a record makes its bytes once, its *body*: as these it travels, waits in caches and
goes to disk. Whoever gets one takes the version out of it, and the rest when somebody asks.

    format (1)  flags (1)  version (14)  [expires_ms (8)]  [prior (14)]  [value]

A record whose version or prior has a link is of a second format, and has behind the prior

    [link of the version (8)  count (1)  count x (link (8), number (8))]  [link of the prior (8)]

where the counted are its winners. Integers are big-endian. Format 2 has no other records, so each
record has one body. Every later format keeps the first byte.

An engine keeps behind the body a checksum that covers the row too, so a record copied under another
key is as damaged as a flipped bit:

    body  crc32 (4)

It is little-endian, because CRC-32 over data followed by its own little-endian CRC is a constant:
one call checks a blob without cutting it. Every later format keeps it: that is how a blob of a
newer release is told from a damaged one. What was voted of a row has a format of its own
(`core.votes`), and the same checksum.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, final
from zlib import crc32

import msgspec

from quorate.core.values.compiling import mypyc_attr
from quorate.core.values.versions import (
    ABSENT,
    LINK_BYTES,
    LINKED_BYTES,
    RECORD_LENGTHS,
    VERSION_BYTES,
)
from quorate.errors import Corrupt, FormatUnsupported

EXPIRES_MS_MAX: Final = (1 << 63) - 1
"""What a frame can carry, and what Redis allows."""
WINNERS_MAX: Final = 97
"""Of one record: 32 from before, a proposal, and 64 requests in it."""
FORMAT: Final = 1
LINKED_FORMAT: Final = 2

_TOMBSTONE: Final = 1
_EXPIRES: Final = 2
_PRIOR: Final = 4
_LINKED: Final = 8
_LINKED_PRIOR: Final = 16
_FLAGS_END: Final = 32
_PLAIN_FLAGS: Final = 7

_HEADS: Final = tuple([bytes((FORMAT, flags)) for flags in range(_PLAIN_FLAGS + 1)])
_HEAD_BYTES: Final = 2 + VERSION_BYTES
_EXPIRY_BYTES: Final = 8
_VALUE_STARTS: Final = tuple(
    [
        _HEAD_BYTES
        + (_EXPIRY_BYTES if flags & _EXPIRES else 0)
        + (VERSION_BYTES if flags & _PRIOR else 0)
        for flags in range(_PLAIN_FLAGS + 1)
    ]
)
"""Where the value of a plain record begins, by flags."""
_LINKED_HEADS: Final = tuple([bytes((LINKED_FORMAT, flags)) for flags in range(_FLAGS_END)])
_WINNER: Final = Struct(">QQ")
_WINNER_BYTES: Final = 16
_NO_LINK: Final = bytes(LINK_BYTES)
_pack_winner: Final = _WINNER.pack
_CHECKSUM_BYTES: Final = 4
_INTACT: Final = crc32(crc32(b"").to_bytes(4, "little"))
_crc32: Final = crc32
"""By a name of ours that cannot change, which the compiled module need not look up."""


@final
@mypyc_attr(acyclic=True)
class Record:
    """One version of one key, which does not change. `value` None is a tombstone; `expires_ms` 0 is
    never.

    Not a Struct, whose attributes are looked up by their names each time. Acyclic, so that the
    collector does not go through all that are cached.
    """

    __slots__ = (
        *("_body", "_prior", "_start", "_value", "_winners"),
        *("expires_ms", "is_tombstone", "version"),
    )

    def __init__(
        self,
        version: bytes,
        value: bytes | None,
        expires_ms: int = 0,
        prior: bytes = ABSENT,
        winners: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.version = version
        self.is_tombstone = value is None
        self.expires_ms = expires_ms
        """Absolute wall-clock milliseconds, fixed by the coordinator, the same on all replicas."""
        self._winners: tuple[tuple[int, int], ...] | None = winners
        """None while they are in the body only: of most that come here nobody asks."""
        self._value = value
        """None once it is in the body."""
        self._prior: bytes | None = prior
        """None while it is in the body only."""
        self._body = b""
        """Empty until it is asked for."""
        self._start = 0
        """Where the value begins in the body."""

    @property
    def value(self) -> bytes | None:
        """What was written, a copy; None if that is a tombstone."""
        value = self._value
        return value if value is not None or self.is_tombstone else self._body[self._start :]

    @property
    def size(self) -> int:
        """The bytes of the value; 0 of a tombstone."""
        value = self._value
        return len(self._body) - self._start if value is None else len(value)

    @property
    def prior(self) -> bytes:
        """The version that the coordinator saw before this one; ABSENT if none or not known."""
        prior = self._prior
        if prior is None:
            start = self._start
            return self._body[start - VERSION_BYTES : start] if self._body[1] & _PRIOR else ABSENT
        return prior

    @property
    def is_of_plain_body(self) -> bool:
        """Whether it was read from a body of format 1, whose fields can be nothing but a record's:
        lengths are given, an expiry was looked at, and there is no place for winners."""
        return self._prior is None

    @property
    def winners(self) -> tuple[tuple[int, int], ...]:
        """Of the last proposals of this chain that were decided, this one's at the end: the link of
        the base and the number of the proposal that came directly after it, and behind it those of
        the requests in it that have a number: the link before the request's own. A number 0 tells
        where the one before it ends. Empty of what was stamped."""
        winners = self._winners
        if winners is None:
            start, end = _winners_span(self._body)
            winners = self._winners = tuple(_WINNER.iter_unpack(self._body[start:end]))
        return winners

    def has_sound_winners(self) -> bool:
        """Whether there are no more than may be, at links that do not fall, below the version's.
        They are looked at in the body: their numbers are not needed."""
        body = self.body
        at, end = _winners_span(body)
        if end - at > WINNERS_MAX * _WINNER_BYTES:
            return False
        last = _NO_LINK
        while at < end:
            # Big-endian numbers are in the order of their bytes.
            link = body[at : at + LINK_BYTES]
            if link < last:
                return False
            last = link
            at += _WINNER_BYTES
        return last < self.version[VERSION_BYTES:]

    @property
    def body(self) -> bytes:
        """Its bytes."""
        if not self._body:
            self._encode()
        return self._body

    def _encode(self) -> None:
        version, value, prior = self.version, self._value, self.prior
        flags, expiry = 0, b""
        if value is None:
            flags = _TOMBSTONE
            value = b""
        if self.expires_ms:
            flags |= _EXPIRES
            expiry = self.expires_ms.to_bytes(_EXPIRY_BYTES, "big")
        if prior:
            flags |= _PRIOR
        if len(version) == VERSION_BYTES and len(prior) in (0, VERSION_BYTES):
            self._start = _VALUE_STARTS[flags]
            self._body = b"".join((_HEADS[flags], version, expiry, prior, value))
        else:
            head = _linked_head(self, flags, expiry)
            self._start = len(head)
            self._body = head + value
        self._value = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and _fields(self) == _fields(other)

    def __repr__(self) -> str:
        return "Record" + repr(_fields(self))


_Fields = tuple[bytes, bytes | None, int, bytes, tuple[tuple[int, int], ...]]


def _fields(record: Record) -> _Fields:
    return record.version, record.value, record.expires_ms, record.prior, record.winners


def _linked_head(record: Record, flags: int, expiry: bytes) -> bytes:
    """All but the value of a record with a link."""
    version, prior = record.version, record.prior
    assert len(version) in RECORD_LENGTHS, f"no version of a record: {version!r}"
    assert not prior or len(prior) in RECORD_LENGTHS, f"no version of a record: {prior!r}"
    parts = [b"", version[:VERSION_BYTES], expiry, prior[:VERSION_BYTES]]
    if len(version) == LINKED_BYTES:
        flags |= _LINKED
        winners = record.winners
        parts.append(version[VERSION_BYTES:])
        parts.append(len(winners).to_bytes(1, "big"))
        for link, number in winners:
            parts.append(_pack_winner(link, number))
    if len(prior) == LINKED_BYTES:
        flags |= _LINKED_PRIOR
        parts.append(prior[VERSION_BYTES:])
    parts[0] = _LINKED_HEADS[flags]
    return b"".join(parts)


def _winners_span(body: bytes) -> tuple[int, int]:
    """Where the winners begin and end in the body of a record whose version has a link."""
    counted = _VALUE_STARTS[body[1] & _PLAIN_FLAGS] + LINK_BYTES
    return counted + 1, counted + 1 + body[counted] * _WINNER_BYTES


def winners_of(record: Record) -> Record:
    """What a record says of who won, as a record without a value, an expiry and a prior."""
    body = record.body
    if body[0] != LINKED_FORMAT or not body[1] & _LINKED:
        return Record(record.version, None, winners=record.winners)
    start, end = _winners_span(body)
    found = Record(record.version, None)
    # All that it has is in the other's body.
    found._body = b"".join(
        (
            _LINKED_HEADS[_TOMBSTONE | _LINKED],
            body[2:_HEAD_BYTES],
            body[start - 1 - LINK_BYTES : end],
        )
    )
    found._start, found._winners = len(found._body), record._winners
    return found


def record_of(body: bytes) -> Record:
    """The record with this body. ValueError if none has."""
    if len(body) < _HEAD_BYTES or body[0] != FORMAT:
        return _linked_record_of(body)
    flags = body[1]
    if flags > _PLAIN_FLAGS:
        raise ValueError("a record with impossible flags")
    start = _VALUE_STARTS[flags]
    if not _is_apt(body, flags, start):
        raise ValueError("a record of an impossible length")
    record = Record(body[2:_HEAD_BYTES], None)
    if flags:
        record.is_tombstone = flags & _TOMBSTONE != 0
        record.expires_ms = _expiry_of(body, flags)
    else:
        record.is_tombstone = False
    record._prior, record._body, record._start = None, body, start
    return record


def _is_apt(body: bytes, flags: int, start: int) -> bool:
    """Whether the body ends with a value, or a tombstone's at once."""
    return len(body) == start if flags & _TOMBSTONE else len(body) >= start


def _expiry_of(body: bytes, flags: int) -> int:
    if not flags & _EXPIRES:
        return 0
    expires_ms = int.from_bytes(body[_HEAD_BYTES : _HEAD_BYTES + _EXPIRY_BYTES], "big")
    if not 0 < expires_ms <= EXPIRES_MS_MAX:
        raise ValueError("a record that expires at no time")
    return expires_ms


def _linked_record_of(body: bytes) -> Record:
    if len(body) < _HEAD_BYTES or body[0] != LINKED_FORMAT:
        raise ValueError("a record of no known format")
    flags = body[1]
    start = _VALUE_STARTS[flags & _PLAIN_FLAGS]
    has_place = flags & _PRIOR or not flags & _LINKED_PRIOR
    if not (_LINKED <= flags < _FLAGS_END and has_place and start <= len(body)):
        raise ValueError("a record with impossible flags")
    version, expires_ms = body[2:_HEAD_BYTES], _expiry_of(body, flags)
    prior = body[start - VERSION_BYTES : start] if flags & _PRIOR else ABSENT
    if flags & _LINKED:
        counted = start + LINK_BYTES
        version += body[start:counted]
        start = counted + 1 + (body[counted] if counted < len(body) else 0) * _WINNER_BYTES
        if start > len(body):
            raise ValueError("a record of an impossible length")
    if flags & _LINKED_PRIOR:
        prior += body[start : start + LINK_BYTES]
        start += LINK_BYTES
    if not _is_apt(body, flags, start):
        raise ValueError("a record of an impossible length")
    record = Record(version, None, expires_ms, prior)
    record.is_tombstone = flags & _TOMBSTONE != 0
    record._body, record._start = body, start
    if flags & _LINKED:
        record._winners = None
    return record


def encode_stored(row: bytes, record: Record) -> bytes:
    """The bytes that an engine keeps under `row`."""
    return seal(row, record.body)


def decode_stored(row: bytes, blob: bytes) -> Record:
    """The record kept under `row`. Corrupt if the bytes are not what `encode_stored` made for this
    row, FormatUnsupported if a newer release made them."""
    if len(blob) <= _CHECKSUM_BYTES or _crc32(blob, _crc32(row)) != _INTACT:
        raise Corrupt("a stored record fails its checksum", row=row.hex())
    if blob[0] != FORMAT and blob[0] != LINKED_FORMAT:
        raise FormatUnsupported(
            "a stored record is of a newer format", found=blob[0], supported=LINKED_FORMAT
        )
    try:
        return record_of(blob[:-_CHECKSUM_BYTES])
    except ValueError:
        # A right checksum over a wrong shape is not decay: somebody else made these bytes.
        raise Corrupt("a stored record has an impossible shape", row=row.hex()) from None


def seal(row: bytes, body: bytes) -> bytes:
    """The body with its checksum behind it."""
    return body + _crc32(body, _crc32(row)).to_bytes(_CHECKSUM_BYTES, "little")


def open_votes(row: bytes, blob: bytes) -> bytes:
    """The body that was sealed, of what was voted on a row. Corrupt if it is not that."""
    body = sound_votes(row, blob)
    if not body:
        raise Corrupt("stored votes fail their checksum", row=row.hex())
    return body


def sound_votes(row: bytes, blob: bytes) -> bytes:
    """The same; empty if it is not that."""
    if len(blob) <= _CHECKSUM_BYTES or _crc32(blob, _crc32(row)) != _INTACT:
        return b""
    return blob[:-_CHECKSUM_BYTES]


def packed(thing: object) -> bytes:
    """What msgspec is to encode instead of a record."""
    if not isinstance(thing, Record):
        raise TypeError(f"{type(thing).__name__} is in no message")
    return thing.body


def unpack(holder: msgspec.Struct, *names: str) -> None:
    """Put records in the place of their bodies, in fields of what was just decoded (`Body`).
    ValueError if one cannot be a record's."""
    for name in names:
        body = getattr(holder, name)
        if body is not None:
            msgspec.structs.force_setattr(holder, name, record_of(body))


def winner_after(record: Record, link: int) -> int | None:
    """The number of the proposal that came directly after the base of this link; None if the record
    does not tell."""
    for base, number in record.winners:
        if base == link:
            return number
    return None


def last_winners(winners: tuple[tuple[int, int], ...], count: int) -> tuple[tuple[int, int], ...]:
    """So many, without requests whose proposal is not among them: the first of these would be taken
    for who won that base."""
    if len(winners) <= count:
        return winners
    dropped, _ = winners[-count - 1]
    return tuple([each for each in winners[-count:] if each[0] != dropped])


def wins(new: Record, old: Record | None) -> bool:
    """Whether `new` replaces `old`. Total: of two different records exactly one wins."""
    if old is None or new.version > old.version:
        return True
    if new.version < old.version:
        return False
    return _content(new) > _content(old)


def _content(record: Record) -> tuple[bool, bytes, int, bytes, tuple[tuple[int, int], ...]]:
    # A tombstone wins over a value of the same version: deleted stays deleted.
    value = record.value or b""
    return record.is_tombstone, value, record.expires_ms, record.prior, record.winners


def is_live(record: Record | None, *, wall_ms: int) -> bool:
    """Whether a reader sees a value: present, not deleted, not expired."""
    if record is None or record.is_tombstone:
        return False
    return not has_expired(record.expires_ms, wall_ms=wall_ms)


def is_expiry(expires_ms: int) -> bool:
    """Whether a record can have it: Unix milliseconds, or 0 for never. What is called for each
    record (`wire.frame_rules`, and decoding one) compares by itself."""
    return 0 <= expires_ms <= EXPIRES_MS_MAX


def has_expired(expires_ms: int, *, wall_ms: int) -> bool:
    """Whether the time of something that expires then, or never if 0, is over."""
    return 0 < expires_ms <= wall_ms
