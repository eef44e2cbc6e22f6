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

from quorate.config import KEY_BYTES_MAX
from quorate.core.topology.layout import EPOCH_MAX, LAYOUT_BYTES_MAX, MOVES_MAX
from quorate.core.values.messages import (
    BALLOT_BITS,
    BALLOT_COUNT_MAX,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Accept,
    Agree,
    AskSums,
    Ballot,
    Foundation,
    FoundStage,
    Frame,
    Greeting,
    Known,
    ListBuckets,
    Listed,
    Message,
    Mutate,
    Mutated,
    Opening,
    OtherEpoch,
    Ping,
    Prepare,
    Pull,
    Read,
    ReadAnswer,
    ScannedRows,
    ScanRows,
    Sums,
    Voted,
    Whereabouts,
)
from quorate.core.values.settings import FOUNDERS_MAX, MEMBERS_MAX, NODE_ID_MAX
from quorate.core.values.slots import BUCKETS, PARTITION_COUNT, ROW_END, ROW_PREFIX_BYTES
from quorate.core.values.versions import VERSION_BYTES
from quorate.errors import PeerProtocolError
from quorate.notation import URL_CHARS_MAX, is_url

FRAME_BYTES_MAX: Final = 32 << 20
"""Payload of one frame; a longer one is refused by its header, before anything is buffered."""
GREETING_BYTES_MAX: Final = LAYOUT_BYTES_MAX + (16 << 10)
"""Room for a layout, and little enough to take from a stranger."""
MAGIC: Final = b"QRT1"
"""What the sniffed port knows a peer by."""

_HEADER: Final = struct.Struct(">III")
_HEADER_BYTES: Final = _HEADER.size
_pack_header, _unpack_header = _HEADER.pack, _HEADER.unpack_from
_UINT32: Final = 0xFFFFFFFF

_encode: Final = msgspec.msgpack.Encoder().encode
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
    digest: int = xxh3_64_intdigest(payload)
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
    except _MALFORMED as error:
        raise PeerProtocolError(f"malformed frame: {error}") from error
    check_frame(frame)
    return frame


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
    if not (0 <= greeting.epoch <= EPOCH_MAX and all(0 <= each <= _COUNT_MAX for each in counts)):
        raise PeerProtocolError("value out of range", message="Greeting")
    return greeting


def _blank(lowest: int, highest: int) -> Greeting:
    return Greeting(lowest, highest, "", "", 0, 0, b"", "")


# --- ranges that types cannot state: plain loops with one condition are the quickest form ------

_COUNT_MAX: Final = (1 << 63) - 1
_ITEMS_MAX: Final = 16_384
"""In a message that is acknowledged, maybe with a reason for each. Honest ones are cut at a
megabyte, each item counted with 100 bytes and its value."""
REASON_CHARS_MAX: Final = 300
_ROW_BYTES_MIN: Final = ROW_PREFIX_BYTES + 1
_ROW_BYTES_MAX: Final = ROW_PREFIX_BYTES + KEY_BYTES_MAX
_PARTITIONS: Final = frozenset(range(PARTITION_COUNT))
_VERSION_LENGTHS: Final = (0, VERSION_BYTES)
_SUMS_LENGTHS: Final = (0, BUCKETS)
_STAGES: Final = frozenset(FoundStage)


def check_frame(frame: Frame) -> None:
    """PeerProtocolError if a row, version, index or number in the frame cannot be one."""
    if not (0 <= frame.epoch <= EPOCH_MAX and 0 <= frame.clock < 1 << 64):
        raise PeerProtocolError("epoch or clock out of range")
    for message in frame.messages:
        rule = _RULES.get(type(message))
        if rule is not None and not rule(message):
            raise PeerProtocolError("value out of range", message=type(message).__name__)


def _are_rows(rows: list[bytes]) -> bool:
    return all(_ROW_BYTES_MIN <= len(row) <= _ROW_BYTES_MAX and row < ROW_END for row in rows)


def _is_mutate(message: Mutate) -> bool:
    if len(message.items) > _ITEMS_MAX:
        return False
    for row, record in message.items:
        if not (
            _ROW_BYTES_MIN <= len(row) <= _ROW_BYTES_MAX
            and row < ROW_END
            and len(record.version) == VERSION_BYTES
            and len(record.prior) in _VERSION_LENGTHS
            and record.expires_ms >= 0
        ):
            return False
    return True


def _is_mutated(message: Mutated) -> bool:
    for index, version in message.superseded:
        if index < 0 or len(version) != VERSION_BYTES:
            return False
    return all(
        index >= 0 and len(reason) <= REASON_CHARS_MAX and reason.isprintable()
        for index, reason in message.refused
    )


def _is_read(message: Read) -> bool:
    return _are_rows(message.full) and _are_rows(message.brief)


def _is_read_answer(message: ReadAnswer) -> bool:
    for record in message.records:
        if record is not None and not (
            len(record.version) == VERSION_BYTES
            and len(record.prior) in _VERSION_LENGTHS
            and record.expires_ms >= 0
        ):
            return False
    for version in message.versions:
        if len(version) not in _VERSION_LENGTHS:
            return False
    return _are_rows(message.failed)


def _is_scan_rows(message: ScanRows | Pull) -> bool:
    return 0 <= message.partition < PARTITION_COUNT and message.limit > 0


def _is_scanned_rows(message: ScannedRows) -> bool:
    for entry in message.rows:
        if len(entry.version) != VERSION_BYTES:
            return False
    return _are_rows([entry.row for entry in message.rows])


def _is_ping(message: Ping) -> bool:
    """Whether its members can be shown; whether each is a node's URL is asked once, when it is
    new."""
    if not (0 <= message.keys <= _COUNT_MAX and 0 <= message.bytes_used <= _COUNT_MAX):
        return False
    if not (0 <= message.pulled <= EPOCH_MAX and 0 <= message.left <= PARTITION_COUNT):
        return False
    if len(message.unreadable) > MOVES_MAX or not _PARTITIONS.issuperset(message.unreadable):
        return False
    return 0 <= message.facts <= _COUNT_MAX and _are_whereabouts(message.members)


def _are_whereabouts(members: list[Whereabouts]) -> bool:
    return len(members) <= MEMBERS_MAX + 1 and all(
        0 <= each.id <= NODE_ID_MAX
        and 0 <= each.serial <= _COUNT_MAX
        and 0 < len(each.url) <= URL_CHARS_MAX
        and each.url.isprintable()
        and len(each.client) <= URL_CHARS_MAX
        and each.client.isprintable()
        for each in members
    )


def _is_known(message: Known) -> bool:
    return (
        len(message.serials) <= MEMBERS_MAX + 1
        and all(
            0 <= node_id <= NODE_ID_MAX and 0 <= serial <= _COUNT_MAX
            for node_id, serial in message.serials
        )
        and _are_whereabouts(message.members)
    )


def _is_other_epoch(message: OtherEpoch) -> bool:
    return 0 <= message.epoch <= EPOCH_MAX


def _is_ballot(ballot: Ballot) -> bool:
    return 0 <= ballot[0] <= BALLOT_COUNT_MAX and 0 <= ballot[1] < 1 << BALLOT_BITS


def _is_asked_vote(message: Prepare | Accept) -> bool:
    if isinstance(message, Accept):
        is_short = len(message.value) <= LAYOUT_BYTES_MAX
    else:
        is_short = len(message.lost) <= MEMBERS_MAX
    return is_short and 0 < message.number <= EPOCH_MAX and _is_ballot(message.ballot)


def _is_voted(message: Voted) -> bool:
    vote = message.vote
    return (
        0 < vote.number <= EPOCH_MAX
        and _is_ballot(vote.promised)
        and _is_ballot(vote.accepted)
        and len(vote.value) <= LAYOUT_BYTES_MAX
    )


def _is_agree(message: Agree) -> bool:
    return (
        0 <= message.boundary <= _COUNT_MAX
        and len(message.digests) <= PARTITION_COUNT
        and all(
            0 <= partition < PARTITION_COUNT and 0 <= digest <= _COUNT_MAX
            for partition, digest in message.digests
        )
        and len(message.fences) <= PARTITION_COUNT
        and all(
            0 <= partition < PARTITION_COUNT and all([0 <= each <= _COUNT_MAX for each in told])
            for partition, *told in message.fences
        )
    )


def _is_ask_sums(message: AskSums) -> bool:
    return 0 <= message.partition < PARTITION_COUNT and 0 <= message.boundary <= _COUNT_MAX


def _is_sums(message: Sums) -> bool:
    return len(message.sums) in _SUMS_LENGTHS and all(
        0 <= each <= _COUNT_MAX for each in message.sums
    )


def _is_list_buckets(message: ListBuckets) -> bool:
    return (
        0 <= message.partition < PARTITION_COUNT
        and 0 <= message.buckets < 1 << BUCKETS
        and message.limit > 0
    )


def _is_found(message: Foundation) -> bool:
    return (
        message.stage in _STAGES
        and 0 < len(message.founders) <= FOUNDERS_MAX
        and 0 < message.replication <= FOUNDERS_MAX
        and all(0 < node_id <= NODE_ID_MAX and is_url(url) for node_id, url in message.founders)
    )


def _is_listed(message: Listed) -> bool:
    return _are_rows([row for row, _ in message.rows]) and all(
        len(version) == VERSION_BYTES for _, version in message.rows
    )


# A table of rules for different message types cannot be typed without Any.
_RULES: Final[dict[type[Message], Callable[[Any], bool]]] = {
    Mutate: _is_mutate,
    Mutated: _is_mutated,
    Read: _is_read,
    ReadAnswer: _is_read_answer,
    ScanRows: _is_scan_rows,
    ScannedRows: _is_scanned_rows,
    Ping: _is_ping,
    OtherEpoch: _is_other_epoch,
    Prepare: _is_asked_vote,
    Accept: _is_asked_vote,
    Voted: _is_voted,
    Pull: _is_scan_rows,
    Agree: _is_agree,
    AskSums: _is_ask_sums,
    Sums: _is_sums,
    Known: _is_known,
    ListBuckets: _is_list_buckets,
    Listed: _is_listed,
    Foundation: _is_found,
}
