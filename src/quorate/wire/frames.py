# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames and greetings between nodes as bytes.

Header (12 bytes, big-endian): payload length, its complement, checksum of the payload (low half of
XXH3-64); then the payload, msgpack. A greeting is the same behind a magic. TCP's own checksum lets
about one in 2^16 damaged segments through, hence ours. The length is checked by itself because a
damaged one must be noticed at once: waiting for megabytes that never come would leave the link
looking alive for ever.

Whatever passes can be taken apart by the core without a further thought: every row has a partition
that exists and a key of allowed length, every version is one. What depends on state (our
partitions, our clock, the value limit) is the core's to judge, item by item.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec
from xxhash import xxh3_64_intdigest

from quorate.core.topology.layout import EPOCH_MAX, LAYOUT_BYTES_MAX
from quorate.core.values.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    AcceptRows,
    Frame,
    Greeting,
    Message,
    Mutate,
    Opening,
    PulledVotes,
    ReadAnswer,
    RowsVoted,
    ScannedRows,
)
from quorate.core.values.record import packed, record_of, unpack
from quorate.errors import PeerProtocolError
from quorate.wire.frame_rules import COUNT_MAX, check_frame

FRAME_BYTES_MAX: Final = 32 << 20
"""Payload of one frame; a longer one is refused by its header, before anything is buffered."""
GREETING_BYTES_MAX: Final = LAYOUT_BYTES_MAX + (16 << 10)
"""Room for a layout, and little enough to take from a stranger."""
MAGIC: Final = b"QRT1"
"""What the sniffed port knows a peer by."""

_HEADER: Final = struct.Struct(">III")
_HEADER_BYTES: Final = _HEADER.size
_pack_header: Final = _HEADER.pack
_unpack_header: Final = _HEADER.unpack_from
_xxh3: Final = xxh3_64_intdigest
"""By names of ours that cannot change, which the compiled module need not look up."""
_UINT32: Final = 0xFFFFFFFF

_encode: Final = msgspec.msgpack.Encoder(enc_hook=packed).encode
_frame_decoder: Final = msgspec.msgpack.Decoder(Frame)
_greeting_decoder: Final = msgspec.msgpack.Decoder(Greeting)
_opening_decoder: Final = msgspec.msgpack.Decoder(Opening)

# UnicodeDecodeError: msgspec lets it through for text that is not UTF-8.
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class FrameTooLarge(ValueError):
    """The frame would be longer than `FRAME_BYTES_MAX`; the caller must send less at once."""


def encode_frame(frame: Frame) -> bytes:
    """The frame as bytes to write. FrameTooLarge if it is.

    Joining header and payload copies, and still takes half the time of making both in one buffer:
    most frames have less than a kilobyte.
    """
    payload = _encode(frame)
    length = len(payload)
    if length > FRAME_BYTES_MAX:
        raise FrameTooLarge(f"a frame of {length} bytes, at most {FRAME_BYTES_MAX} are allowed")
    return _pack_header(length, length ^ _UINT32, _checksum(payload)) + payload


def encode_greeting(greeting: Greeting) -> bytes:
    """The greeting as bytes to write. ValueError if longer than `GREETING_BYTES_MAX`."""
    payload = _encode(greeting)
    length = len(payload)
    if length > GREETING_BYTES_MAX:
        raise ValueError(f"a greeting of {length} bytes, at most {GREETING_BYTES_MAX} are allowed")
    return MAGIC + _pack_header(length, length ^ _UINT32, _checksum(payload)) + payload


class FrameParser:
    """Cuts a stream into frames. Holds at most one unfinished frame; linear in the bytes fed.

    Once `feed` raised, the stream has no meaning any more: drop the connection. `bytes_max` is for
    frames that come in pieces: what came whole in one piece takes no more memory.
    """

    __slots__ = ("_needed", "_pending", "bytes_max")

    def __init__(self, *, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._pending = bytearray()
        self._needed = _HEADER_BYTES

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. PeerProtocolError for anything that is not one."""
        end = len(data)
        if end > _HEADER_BYTES and not self._pending:
            length, complement, checksum = _unpack_header(data)
            if length == end - _HEADER_BYTES <= FRAME_BYTES_MAX and length ^ complement == _UINT32:
                # The usual piece: one whole frame. A copy costs less than views of so few bytes.
                return [_decode_frame(data[_HEADER_BYTES:], checksum)]
        buffer: bytes | bytearray = data
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return []
            buffer, self._pending = self._pending, bytearray()
        with memoryview(buffer) as view:
            frames, used = self._cut(view)
            if used < len(view):
                self._pending = bytearray(view[used:])
        return frames

    @property
    def begun_bytes(self) -> int:
        """What it holds of an unfinished frame."""
        return len(self._pending)

    def _cut(self, view: memoryview) -> tuple[list[Frame], int]:
        frames: list[Frame] = []
        start = 0
        end = len(view)
        self._needed = _HEADER_BYTES
        while end - start >= _HEADER_BYTES:
            length, checksum = _read_header(view, start, bytes_max=self.bytes_max)
            stop = start + _HEADER_BYTES + length
            if stop > end:
                self._needed = stop - start
                break
            frames.append(_decode_frame(view[start + _HEADER_BYTES : stop], checksum))
            start = stop
        return frames, start


class GreetingParser:
    """Takes one greeting from the beginning of a stream."""

    __slots__ = ("_pending", "rest")

    def __init__(self) -> None:
        self._pending = bytearray()
        self.rest = b""
        """What came behind the greeting, once `feed` returned it."""

    def feed(self, data: bytes) -> Greeting | None:
        """The greeting if `data` completes it. PeerProtocolError for anything that is not one.

        One without a protocol in common is read no further than its numbers: the other fields
        are empty.
        """
        pending = self._pending
        pending += data
        if not MAGIC.startswith(pending[: len(MAGIC)]):
            raise PeerProtocolError("no greeting: the magic is missing")
        start = len(MAGIC) + _HEADER_BYTES
        if len(pending) < start:
            return None
        length, checksum = _read_header(pending, len(MAGIC), bytes_max=GREETING_BYTES_MAX)
        if len(pending) < start + length:
            return None
        self.rest = bytes(pending[start + length :])
        return _decode_greeting(bytes(pending[start : start + length]), checksum)


def _checksum(payload: bytes | memoryview) -> int:
    # Declared, as the wheel is built where xxhash is not there to say so itself.
    digest: int = _xxh3(payload)
    return digest & _UINT32


def _read_header(data: bytearray | memoryview, start: int, *, bytes_max: int) -> tuple[int, int]:
    length, complement, checksum = _unpack_header(data, start)
    if length ^ complement != _UINT32:
        raise PeerProtocolError("damaged header: length and complement differ")
    if not 0 < length <= bytes_max:
        raise PeerProtocolError("length out of bounds", length=length, bytes_max=bytes_max)
    return length, checksum


def _decode_frame(payload: bytes | memoryview, checksum: int) -> Frame:
    if _checksum(payload) != checksum:
        raise PeerProtocolError("damaged frame: wrong checksum", length=len(payload))
    try:
        frame = _frame_decoder.decode(payload)
        for message in frame.messages:
            unpacks = _UNPACKING.get(type(message))
            if unpacks is not None:
                unpacks(message)
    except (*_MALFORMED, ValueError) as error:
        raise PeerProtocolError(f"malformed frame: {error}") from error
    check_frame(frame)
    return frame


# --- records in the place of their bodies; ValueError if one cannot be a record's ----------------


def _unpack_written(message: Any) -> None:
    # By their types, compiled code takes pairs apart; of Any it would go by an iterator for each.
    items: list[tuple[bytes, bytes]] = message.items
    unpacked: list[Any] = items
    for index, (row, body) in enumerate(items):
        unpacked[index] = row, record_of(body)


def _unpack_proposed(message: Any) -> None:
    items: list[tuple[bytes, Any, Any, bytes]] = message.items
    unpacked: list[Any] = items
    for index, (row, base, ballot, body) in enumerate(items):
        unpacked[index] = row, base, ballot, record_of(body)


def _unpack_records(message: Any) -> None:
    records: list[Any] = message.records
    for index, body in enumerate(records):
        if body is not None:
            records[index] = record_of(body)


def _unpack_votes(message: RowsVoted) -> None:
    for vote in message.votes:
        unpack(vote, "record", "held")


def _unpack_pulled_votes(message: PulledVotes) -> None:
    for _, _, _, instance in message.votes:
        if instance is not None:
            unpack(instance, "record")


_UNPACKING: Final[dict[type[Message], Callable[[Any], None]]] = {
    Mutate: _unpack_written,
    ReadAnswer: _unpack_records,
    ScannedRows: _unpack_records,
    AcceptRows: _unpack_proposed,
    RowsVoted: _unpack_votes,
    PulledVotes: _unpack_pulled_votes,
}


def _decode_greeting(payload: bytes, checksum: int) -> Greeting:
    if _checksum(payload) != checksum:
        raise PeerProtocolError("damaged greeting: wrong checksum")
    try:
        opening = _opening_decoder.decode(payload)
        lowest, highest = opening.protocol_min, opening.protocol_max
        blank = _blank(lowest, highest if isinstance(highest, int) else lowest)
        if not blank.spoken_with(_blank(PROTOCOL_MIN, PROTOCOL_MAX)):
            return blank
        greeting = _greeting_decoder.decode(payload)
    except _MALFORMED as error:
        raise PeerProtocolError(f"malformed greeting: {error}") from error
    counts = (
        *(greeting.serial, greeting.process, greeting.reached, greeting.w, greeting.r),
        *(greeting.level, greeting.in_force, greeting.expect),
    )
    if not (0 <= greeting.epoch <= EPOCH_MAX and all(0 <= each <= COUNT_MAX for each in counts)):
        raise PeerProtocolError("value out of range", message="Greeting")
    return greeting


def _blank(lowest: int, highest: int) -> Greeting:
    return Greeting(lowest, highest, "", "", 0, 0, b"", "")
