# SPDX-License-Identifier: GPL-3.0-or-later
"""Two releases side by side: each message may be longer than this one knows it, or shorter."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import Phase, find, given, settings

from quorate.core.topology.layout import Member
from quorate.core.values.messages import (
    Frame,
    Greeting,
    Instance,
    Message,
    RowVote,
    ScannedRow,
    Vote,
    Whereabouts,
)
from quorate.core.values.record import Record
from quorate.core.values.stored import StoredHint, hint_of
from quorate.errors import PeerProtocolError
from quorate.wire.frames import MAGIC, FrameParser, GreetingParser
from tests.unit.wire.frame_strategies import FRAME, GREETING, MESSAGE
from tests.unit.wire.test_frames import sealed

SURPLUS = [{"made up": [1, None]}, b"later", -1.5]
"""Of a later release, behind all that this one knows."""
QUICKLY = settings(phases=[Phase.generate], max_examples=5_000)
"""The first that is found will do."""
STRUCTS = (
    *get_args(Message),
    *(Whereabouts, ScannedRow, Vote, RowVote, Instance, Frame, Greeting),
)


def _longer(value: object) -> object:
    """What a later release might say: each array that has fields has more."""
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        known = [_longer(each) for each in msgspec.structs.astuple(value)]
        return [*([] if tag is None else [tag]), *known, *SURPLUS]
    if isinstance(value, Record):
        return value.body
    if isinstance(value, list | tuple):
        return [_longer(each) for each in value]
    return value


def _shorter(value: object) -> object:
    """What an earlier one might say: fields that are as they are by default are not there."""
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        fields, defaults = list(msgspec.structs.astuple(value)), list(value.__struct_defaults__)
        while defaults and fields[-1] == _made(defaults.pop()):
            fields.pop()
        return [*([] if tag is None else [tag]), *map(_shorter, fields)]
    if isinstance(value, Record):
        return value.body
    if isinstance(value, list | tuple):
        return [_shorter(each) for each in value]
    return value


def _made(default: Any) -> object:
    return default.factory() if isinstance(default, msgspec._core.Factory) else default


def _heard(frame: object) -> Frame:
    (heard,) = FrameParser().feed(sealed(msgspec.msgpack.encode(frame)))
    return heard


@given(FRAME)
def test_a_frame_is_understood_whatever_is_added_to_its_messages(frame: Frame) -> None:
    assert _heard(_longer(frame)) == frame


@given(FRAME)
def test_a_frame_is_understood_that_lacks_what_was_added_later(frame: Frame) -> None:
    assert _heard(_shorter(frame)) == frame


@given(GREETING)
def test_a_greeting_is_understood_longer_or_shorter(greeting: Greeting) -> None:
    for said in (_longer(greeting), _shorter(greeting)):
        data = MAGIC + sealed(msgspec.msgpack.encode(said))
        assert GreetingParser().feed(data) == greeting


@pytest.mark.parametrize("kind", get_args(Message), ids=lambda kind: kind.__name__)
def test_every_message_is_understood_longer_or_shorter(kind: type[Message]) -> None:
    sample = find(MESSAGE, lambda message: isinstance(message, kind), settings=QUICKLY)
    frame = Frame(1, 0, [sample])
    assert _heard(_longer(frame)) == _heard(_shorter(frame)) == frame


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_what_nodes_say_is_arrays_that_take_more_fields(kind: type[msgspec.Struct]) -> None:
    config = kind.__struct_config__
    assert config.array_like
    assert not config.forbid_unknown_fields


def test_what_is_stored_may_be_longer_too() -> None:
    """So a node that went back to an earlier release reads what the later one left."""
    hint = StoredHint(b"r" * 9, Record(b"v" * 14, b"value"))
    member = Member(1, "http://n1:1", "a", 2)
    known = Whereabouts(1, 2, "http://n1:1")
    assert hint_of(msgspec.msgpack.encode(_longer(hint))) == hint
    for value in (member, known):
        data = msgspec.msgpack.encode(_longer(value))
        assert msgspec.msgpack.decode(data, type=type(value)) == value


def test_a_message_of_a_later_release_ends_the_link() -> None:
    """So it must not be sent before its feature level is in force."""
    with pytest.raises(PeerProtocolError, match="malformed"):
        _heard([1, 0, [[99, 1]]])
