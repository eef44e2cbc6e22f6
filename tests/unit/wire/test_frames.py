# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames and greetings: what goes in comes out, and nothing else comes out."""

from __future__ import annotations

import marshal
import pickle
import struct
import time
import tracemalloc
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Frame, Greeting, Mutate, Pong
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.errors import PeerProtocolError
from quorate.wire.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    MAGIC,
    FrameParser,
    FrameTooLarge,
    GreetingParser,
    encode_frame,
    encode_greeting,
)
from tests.unit.wire.frame_strategies import FRAME, GREETING

VERSION = b"v" * 14
SAMPLE = Frame(1, 2**63, [Mutate(9, [(row_of(b"key"), Record(VERSION, b"value"))]), Pong(3)])
HELLO = Greeting(PROTOCOL_MIN, PROTOCOL_MAX, "c", "http://127.0.0.1:1", 1, 7, b"h" * 16, "0.1")


def sealed(payload: bytes) -> bytes:
    """`payload` behind a good header, as a peer with other software would send it."""
    length = len(payload)
    header = struct.pack(">III", length, length ^ 0xFFFFFFFF, xxh3_64_intdigest(payload) % 2**32)
    return header + payload


def header_of(length: int) -> bytes:
    return struct.pack(">III", length, length ^ 0xFFFFFFFF, 0)


@given(frames=st.lists(FRAME, max_size=4), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(
    frames: list[Frame], cuts: list[int]
) -> None:
    stream = b"".join(encode_frame(frame) for frame in frames)
    parser = FrameParser()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    out: list[Frame] = []
    for start, stop in pairwise(edges):
        out += parser.feed(stream[start:stop])
    assert out == frames
    assert parser.feed(encode_frame(SAMPLE)) == [SAMPLE]


def test_a_frame_cut_at_any_byte_yields_nothing_until_the_rest_comes() -> None:
    data = bytes(encode_frame(SAMPLE))
    for cut in range(len(data)):
        parser = FrameParser()
        assert parser.feed(data[:cut]) == []
        assert parser.feed(data[cut:] + data) == [SAMPLE, SAMPLE]


def test_every_flipped_bit_is_refused() -> None:
    data = bytes(encode_frame(SAMPLE))
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerProtocolError):
            FrameParser().feed(bytes(damaged))


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_by_the_header_alone(length: int) -> None:
    with pytest.raises(PeerProtocolError, match="length out of bounds"):
        FrameParser().feed(header_of(length))


def test_the_longest_length_is_waited_for_without_reserving_memory() -> None:
    parser = FrameParser()
    tracemalloc.start()
    assert parser.feed(header_of(FRAME_BYTES_MAX)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


def test_the_largest_frame_passes_and_one_byte_more_cannot_be_encoded() -> None:
    def frame(value_bytes: int) -> Frame:
        record = Record(VERSION, bytes(value_bytes))
        return Frame(1, 1, [Mutate(1, [(row_of(b"k"), record)])])

    overhead = len(encode_frame(frame(1 << 20))) - 12 - (1 << 20)
    largest = frame(FRAME_BYTES_MAX - overhead)
    assert FrameParser().feed(bytes(encode_frame(largest))) == [largest]
    with pytest.raises(FrameTooLarge):
        encode_frame(frame(FRAME_BYTES_MAX - overhead + 1))


def test_a_stream_in_single_bytes_costs_time_linear_in_its_length() -> None:
    def seconds(value_bytes: int) -> float:
        record = Record(VERSION, bytes(value_bytes))
        data = bytes(encode_frame(Frame(1, 1, [Mutate(1, [(row_of(b"k"), record)])])))
        parser = FrameParser()
        began = time.process_time()
        frames = [frame for at in range(len(data)) for frame in parser.feed(data[at : at + 1])]
        assert len(frames) == 1
        return time.process_time() - began

    # Eight times the bytes: about 8 times the time; 64 times if it were quadratic.
    assert seconds(400_000) < 30 * max(seconds(50_000), 0.005)


@pytest.mark.parametrize(
    "message",
    [
        [99, 1],
        [0, 1],
        ["1", 1],
        [],
        [8],
        [8, "one"],
        [8, 1.5],
        [1, 1, [[b"\0\0\0\0k", [VERSION]]]],
        [1, 1, [[b"\0\0\0\0k", [VERSION, "text"]]]],
        [1, 1, [[b"\0\0\0\0k", VERSION]]],
        [1, 1, [[b"\0\0\0\0k", "text"]]],
        [4, 1, [None, b"\1\x08" + VERSION], []],
        [23, 1, [[0, b"", [0, 0], [0, 0], b""]]],
        [7, 1, [b"\xff"], 0, 0],
    ],
    ids=repr,
)
def test_an_unknown_tag_or_a_field_of_another_type_is_refused(message: list[object]) -> None:
    payload = msgspec.msgpack.encode([1, 1, [[8, 1], message]])
    with pytest.raises(PeerProtocolError, match="malformed"):
        FrameParser().feed(sealed(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"\x93\x01\x01\xdd\xff\xff\xff\xff",
        b"\x93\x01\x01\xc6\xff\xff\xff\xff",
        b"\x93\x01\x01" + b"\x91" * 100_000,
        b"\x93\x01\x01\x90trailing",
        b"\x93\x01\x01\x91\x95\x07\x01\x91\xa2\xff\xfe\x00\x00",
        b"\x94\x01\x01\x90" + b"\x91" * 100_000,
        pickle.dumps({"a": 1}),
        marshal.dumps({"a": 1}),
    ],
    ids=[
        "opcode",
        "huge list",
        "huge bytes",
        "deep",
        "trailing",
        "not UTF-8",
        "deep in an unknown field",
        "pickle",
        "marshal",
    ],
)
def test_hostile_payloads_behind_a_good_checksum_are_refused(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="malformed"):
        FrameParser().feed(sealed(payload))


@pytest.mark.parametrize("element", [b"\x80", b"\x90"], ids=["maps", "lists"])
def test_what_stands_for_a_record_and_is_none_is_refused_before_it_is_built(
    element: bytes,
) -> None:
    """Each empty one would take 70 bytes of memory for the one that came."""
    marked = Frame(1, 1, [Mutate(1, [(row_of(b"k"), Record(VERSION, b"mark"))])])
    body = msgspec.msgpack.encode(Record(VERSION, b"mark").body)
    count = 1 << 19
    many = b"\xdd" + count.to_bytes(4, "big") + element * count
    data = sealed(encode_frame(marked)[12:].replace(body, many))
    assert len(data) > count
    tracemalloc.start()
    try:
        with pytest.raises(PeerProtocolError, match="malformed"):
            FrameParser().feed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(data)


@given(frame=FRAME, at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_whatever_a_payload_is_changed_into_ends_in_a_frame_or_a_protocol_error(
    frame: Frame, at: int, byte: int
) -> None:
    payload = bytearray(encode_frame(frame)[12:])
    payload[at % len(payload)] = byte
    try:
        frames = FrameParser().feed(sealed(bytes(payload)))
    except PeerProtocolError:
        return
    assert len(frames) == 1


@given(data=st.binary(max_size=200))
def test_noise_is_refused_or_waited_on(data: bytes) -> None:
    try:
        assert FrameParser().feed(data) == []
    except PeerProtocolError:
        return
    assert len(data) < 12


# --- greetings -----------------------------------------------------------------------------------


@given(greeting=GREETING, cut=st.integers(0, 2000), rest=st.binary(max_size=50))
def test_a_greeting_comes_out_as_it_went_in_with_what_came_behind_it(
    greeting: Greeting, cut: int, rest: bytes
) -> None:
    data = encode_greeting(greeting)
    cut %= len(data)
    parser = GreetingParser()
    assert parser.feed(data[:cut]) is None
    assert parser.feed(data[cut:] + rest) == greeting
    assert parser.rest == rest


def test_every_flipped_bit_of_a_greeting_is_refused() -> None:
    data = encode_greeting(HELLO)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerProtocolError):
            GreetingParser().feed(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [b"X", b"QX", b"QRT2", b"GET / HTTP/1.1\r\n", b"*1\r\n", pickle.dumps(1), b"\xac\xed\x00\x05"],
)
def test_a_wrong_magic_is_refused_at_its_first_wrong_byte(data: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="magic"):
        GreetingParser().feed(data)


@pytest.mark.parametrize("length", [0, GREETING_BYTES_MAX + 1, 2**32 - 1])
def test_a_greeting_of_a_length_out_of_bounds_is_refused_by_its_header(length: int) -> None:
    with pytest.raises(PeerProtocolError, match="length out of bounds"):
        GreetingParser().feed(MAGIC + header_of(length))


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ([PROTOCOL_MAX + 1, PROTOCOL_MAX + 2, {"all": "else"}, 1.5], [1, 2]),
        ([PROTOCOL_MAX + 1], [1, 1]),
        ([PROTOCOL_MIN - 1, "a cluster", 7], [-1, -1]),
    ],
    ids=["later", "short", "before protocol 4"],
)
def test_a_greeting_of_another_protocol_is_read_no_further_than_its_numbers(
    said: list[object], numbers: list[int]
) -> None:
    greeting = GreetingParser().feed(MAGIC + sealed(msgspec.msgpack.encode(said)))
    lowest, highest = [PROTOCOL_MAX + each for each in numbers]
    assert greeting == Greeting(lowest, highest, "", "", 0, 0, b"", "")


@pytest.mark.parametrize(
    "payload",
    [
        b"\x90",
        b"\x91\xa1x",
        b"\x93\x04\x04\xa0",
        b"\x98\x04\x04\xa2\xff\xfe\xa0\x01\x01\xc4\x00\xa0",
    ],
    ids=["empty", "text as protocol", "short", "not UTF-8"],
)
def test_a_malformed_greeting_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="malformed"):
        GreetingParser().feed(MAGIC + sealed(payload))


def test_a_greeting_longer_than_allowed_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_greeting(msgspec.structs.replace(HELLO, layout=bytes(GREETING_BYTES_MAX)))


def test_fields_added_at_the_end_by_a_later_release_are_skipped() -> None:
    payload = msgspec.msgpack.encode([*msgspec.to_builtins(HELLO, builtin_types=(bytes,)), 1, "x"])
    assert GreetingParser().feed(MAGIC + sealed(payload)) == HELLO


@pytest.mark.parametrize(
    "field", ["epoch", "serial", "process", "reached", "w", "r", "level", "in_force"]
)
@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_a_greeting_with_a_number_that_cannot_be_is_refused(field: str, value: int) -> None:
    """What is kept of it, and told to others, would end their links."""
    greeting = Greeting(PROTOCOL_MIN, PROTOCOL_MAX, "c", "http://n1:1", 1, 1, b"", "1")
    wrong = msgspec.structs.replace(greeting, **{field: value})
    with pytest.raises(PeerProtocolError, match="out of range"):
        GreetingParser().feed(encode_greeting(wrong))
