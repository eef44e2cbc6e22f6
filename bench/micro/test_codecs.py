# SPDX-License-Identifier: GPL-3.0-or-later
"""What bytes cost: frames between nodes, commands of clients, records on disk."""

from __future__ import annotations

from bench.micro.conftest import Measure
from bench.micro.samples import KEYS, PAIRS, VALUE
from quorate.core.values.messages import Frame, Mutate
from quorate.wire.frames import FrameParser, encode_frame
from quorate.wire.records import decode, encode
from quorate.wire.resp import CommandParser, array, bulk

_FRAME = Frame(epoch=1, clock=1 << 40, messages=[Mutate(batch=1, items=PAIRS)])


def test_frame_encode_a_write(measure: Measure) -> None:
    measure(lambda: encode_frame(_FRAME))


def test_frame_decode_a_write(measure: Measure) -> None:
    data, parser = bytes(encode_frame(_FRAME)), FrameParser()
    assert parser.feed(data) == [_FRAME]
    measure(lambda: parser.feed(data))


def test_resp_parse_a_set(measure: Measure) -> None:
    """One after the other, as connections bring them."""
    commands = [array([bulk(b"SET"), bulk(key), bulk(VALUE)]) for key in KEYS]
    parser = CommandParser(bulk_bytes_max=1 << 20)
    assert parser.feed(commands[0]) == [[b"SET", KEYS[0], VALUE]]
    measure(lambda: [parser.feed(command) for command in commands])


def test_resp_encode_a_value(measure: Measure) -> None:
    measure(lambda: [bulk(VALUE) for _ in KEYS])


def test_record_encode(measure: Measure) -> None:
    measure(lambda: [encode(row, record) for row, record in PAIRS])


def test_record_decode(measure: Measure) -> None:
    blobs = [(row, encode(row, record)) for row, record in PAIRS]
    measure(lambda: [decode(row, blob) for row, blob in blobs])
