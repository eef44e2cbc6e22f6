# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis protocol's parser against hiredis and against hostile bytes."""

from __future__ import annotations

import itertools

import hiredis
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quorate.wire import resp
from quorate.wire.resp import ARGS_MAX, ARGS_SKIPPED_MAX, INLINE_BYTES_MAX, CommandParser

BULK_MAX = 300_000
PING = b"*1\r\n$4\r\nPING\r\n"

arguments = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"\r\n", b"a\r\n$3\r\nb", b"\r", b"\n", b"x" * 5000, b"*1", b"$-1"]),
)
commands = st.lists(
    st.one_of(
        st.lists(arguments, min_size=1, max_size=5),
        st.lists(arguments, min_size=63, max_size=70),
        st.integers(65, 300).map(lambda count: [b"MGET", *[b"key"] * count]),
    ),
    max_size=8,
)


def new_parser() -> CommandParser:
    return CommandParser(bulk_bytes_max=BULK_MAX, value_bytes_max=BULK_MAX - 10)


def encode(command: list[bytes]) -> bytes:
    return resp.array([resp.bulk(argument) for argument in command])


def fault_of(data: bytes) -> str | None:
    parser = new_parser()
    assert parser.feed(data) == []
    return parser.fault


@given(commands, st.lists(st.integers(0, 5000), max_size=6))
@example([[b"SET", b"k", b"v\r\n"], [b"GET", b"k"]], [17])
def test_any_cut_of_any_pipeline_gives_the_commands_that_hiredis_sees(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    data = b"".join(map(encode, sent))
    reader = hiredis.Reader()
    reader.feed(data)
    expected = [reader.gets() for _ in sent]
    parser = new_parser()
    seen = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        seen += parser.feed(data[start:end])
    assert seen == expected
    assert parser.fault is None
    assert not parser.is_partial


@pytest.mark.parametrize(
    "command",
    [
        *([b"PING"], [b"GET", b"k"], [b"SET", b"k", b"v" * 4096], [b"", b"", b""]),
        *([b"SET", b"k", b"a\r\nb", b"EX", b"10"], [b"MGET", *[b"k"] * 8]),
    ],
)
def test_a_plain_command_alone_needs_no_parser(command: list[bytes]) -> None:
    assert resp.plain_command(encode(command)) == command


@given(
    st.lists(
        st.one_of(arguments, st.sampled_from([b"*2\r\n", b"*3\r\n", b"$1\r\n", b"a\r\n", b"$"])),
        max_size=9,
    ),
    st.lists(st.lists(arguments, min_size=2, max_size=3), max_size=2),
)
@example([b"*2\r\n", b"$1\r\n", b"a\r\n", b"$1\r\n", b"a\r\n", b"a\r\n"], [])
@example([], [[b"GET", b"x" * 5000]])
@example([], [[b"SET", b"k", b"v\r\n"]])
@example([], [[b"GET", b"a\r\n$1\r\nb"]])
def test_what_is_taken_for_a_plain_command_is_what_the_parser_makes_of_it(
    pieces: list[bytes], sent: list[list[bytes]]
) -> None:
    data = b"".join((*map(encode, sent), *pieces))
    command = resp.plain_command(data)
    parser = new_parser()
    seen = parser.feed(data)
    if command is not None:
        assert seen == [command]
        assert parser.fault is None
        assert not parser.is_partial


@given(
    st.lists(st.lists(arguments, min_size=1, max_size=10), min_size=1, max_size=3),
    st.lists(
        st.tuples(
            st.integers(0, 200), st.integers(0, 2), st.sampled_from(b"*$0123456789-+ \r\n\0a")
        ),
        max_size=3,
    ),
)
@example([[b"GET", b"k"]], [(9, 1, 0x30)])
@example([[b"SET", b"k", b"v" * 4096]], [])
@example([[b"SET", b"k", b"v" * 4097]], [])
def test_bytes_read_where_they_lie_mean_what_they_mean_to_the_parser_one_at_a_time(
    sent: list[list[bytes]], changes: list[tuple[int, int, int]]
) -> None:
    data = bytearray(b"".join(map(encode, sent)))
    for at, removed, added in changes:
        start = min(at, len(data))
        data[start : start + removed] = bytes([added])
    whole, single = new_parser(), new_parser()
    seen, expected = whole.feed(bytes(data)), []
    for byte in data:
        # Never enough at once for a plain command.
        expected += single.feed(bytes([byte]))
    assert (seen, whole.fault, whole.is_partial) == (expected, single.fault, single.is_partial)
    alone = resp.plain_command(bytes(data))
    assert alone is None or ([alone], None, False) == (expected, single.fault, single.is_partial)


@settings(max_examples=30)
@given(commands)
def test_one_byte_at_a_time_gives_the_same_commands(sent: list[list[bytes]]) -> None:
    parser = new_parser()
    seen = []
    for byte in b"".join(map(encode, sent)):
        seen += parser.feed(bytes([byte]))
    assert seen == sent


@given(st.lists(st.sampled_from([b"*", b"$", b"1", b"-", b"\r\n", b"\n", b" ", b"a", b'"', b"\0"])))
def test_no_bytes_make_the_parser_raise_or_depend_on_how_they_were_cut(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    whole, cut = new_parser(), new_parser()
    expected = whole.feed(data)
    seen = []
    for byte in data:
        seen += cut.feed(bytes([byte]))
    assert seen == expected
    assert cut.fault == whole.fault


@given(commands, st.lists(st.integers(0, 5000), max_size=6))
def test_a_half_command_is_said_to_hold_what_came_of_it_and_no_more(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    data = b"".join(map(encode, sent))
    parser = new_parser()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    done = 0
    for start, end in itertools.pairwise(edges):
        done += sum(len(encode(command)) for command in parser.feed(data[start:end]))
        came = end - done
        # Framing goes once it is read; an argument costs 48 bytes beside its own.
        assert came // 8 - 20 <= parser.held_bytes <= came + 48 * (came // 5)
    assert parser.held_bytes == 0


def test_what_a_header_promises_and_what_was_thrown_away_hold_nothing() -> None:
    parser = new_parser()
    parser.feed(b"*2\r\n$3\r\nGET\r\n$300000\r\n")
    assert parser.held_bytes < 100
    parser = new_parser()
    parser.feed(b"*100000\r\n" + b"$3\r\nGET\r\n" * 50_000 + b"$300000\r\n")
    assert parser.held_bytes == 0
    parser.feed(b"v" * 1000)
    assert parser.held_bytes == 1000
    parser.stop("")
    assert parser.held_bytes == 0


class CountingBuffer(bytearray):
    searched = 0
    searches = 0

    def find(  # type: ignore[override]
        self, sub: bytes, start: int = 0, end: int | None = None
    ) -> int:
        end = len(self) if end is None else min(end, len(self))
        self.searched += end - start
        self.searches += 1
        return super().find(sub, start, end)


@pytest.mark.parametrize(
    "line", [b"x" * 60_000, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$50000\r\n" + b"v" * 50_000]
)
def test_single_bytes_cost_linear_work_however_long_the_command(line: bytes) -> None:
    parser = new_parser()
    parser._buffer = buffer = CountingBuffer()
    for byte in line:
        assert parser.feed(bytes([byte])) == []
    assert parser.is_partial
    assert buffer.searched <= 3 * len(line)


# --- RESP framing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [b"*2147483648", b"*100000000", b"*%d" % (ARGS_SKIPPED_MAX + 1), b"*" + b"9" * 50]
)
def test_a_header_of_too_many_arguments_is_a_fault_and_allocates_nothing(
    header: bytes,
) -> None:
    parser = new_parser()
    assert parser.feed(header + b"\r\n" + PING) == []
    assert parser.fault is not None
    assert parser.fault.startswith("ERR Protocol error: invalid multibulk length")
    assert ("arguments_max=65536" in parser.fault) == (len(header) < 20)
    assert not parser.is_partial


@pytest.mark.parametrize("header", [b"*-5", b"*0", b"*-1"])
def test_an_empty_array_is_ignored(header: bytes) -> None:
    parser = new_parser()
    assert parser.feed(header + b"\r\n" + PING + header + b"\r\n" + PING) == [[b"PING"], [b"PING"]]
    assert parser.fault is None


@pytest.mark.parametrize("header", [b"*abc", b"*+1", b"*01", b"* 1", b"*", b"*1 ", b"*-0", b"*1_0"])
def test_a_count_that_is_no_canonical_number_is_a_fault(header: bytes) -> None:
    assert fault_of(header + b"\r\n" + PING) == "ERR Protocol error: invalid multibulk length"


@pytest.mark.parametrize(
    "length",
    [
        b"99999999999",
        b"10000000000",
        b"9223372036854775808",
        b"-1",
        b"-5",
        b"",
        b"04",
        b"+4",
        b"4 ",
    ],
)
def test_a_length_that_cannot_be_is_a_fault(length: bytes) -> None:
    fault = fault_of(b"*1\r\n$" + length + b"\r\nPING\r\n")
    assert fault is not None
    assert fault.startswith("ERR Protocol error: invalid bulk length")


def test_a_bulk_string_over_the_limit_is_refused_at_its_header() -> None:
    header = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n"
    assert fault_of(header % BULK_MAX) is None
    assert fault_of(header % (BULK_MAX + 1)) == (
        "ERR Protocol error: invalid bulk length: an argument is too large "
        f"(outcome=not_applied bytes={BULK_MAX + 1} bytes_max={BULK_MAX - 10})"
    )


@pytest.mark.parametrize(
    "data", [b"*1\r\n$4\r\nPINGXX", b"*1\r\n$4\r\nPINGPONG\r\n", b"*1\r\n$4\r\nPING\n\n"]
)
def test_a_bulk_string_without_its_crlf_is_a_fault(data: bytes) -> None:
    assert fault_of(data + PING) == "ERR Protocol error: bulk string without its CRLF"


def test_line_feeds_alone_frame_nothing() -> None:
    parser = new_parser()
    assert parser.feed(b"*1\n$4\nPING\n") == []
    assert parser.is_partial
    assert parser.feed(b"*1\n$4\nPING\n" * 10) == []
    assert parser.fault == "ERR Protocol error: too big mbulk count string"


@pytest.mark.parametrize("nested", [b"*1\r\n$4\r\nPING\r\n", b":1\r\n", b"+OK\r\n", b"\0\r\n"])
def test_an_argument_that_is_no_bulk_string_is_a_fault(nested: bytes) -> None:
    fault = fault_of(b"*2\r\n$3\r\nGET\r\n" + nested)
    assert fault is not None
    assert fault.startswith("ERR Protocol error: expected '$', got '")


@pytest.mark.parametrize(
    "kind", [b"%1", b"#t", b",1.5", b"|1", b">1", b"~1", b"$4", b":1", b"+PING", b"_", b"(1"]
)
def test_other_resp_types_are_never_read_as_commands(kind: bytes) -> None:
    assert (
        fault_of(kind + b"\r\nPING\r\n")
        == f"ERR Protocol error: expected '*', got '{kind[:1].decode()}'"
    )


def test_an_inline_line_over_64_kib_without_an_end_is_a_fault() -> None:
    assert fault_of(b"x" * INLINE_BYTES_MAX) is None
    assert fault_of(b"x" * (INLINE_BYTES_MAX + 1)) == "ERR Protocol error: too big inline request"
    long_line = b"x" * (INLINE_BYTES_MAX + 1) + b"\r\n"
    assert fault_of(long_line) == "ERR Protocol error: too big inline request"


@pytest.mark.parametrize(
    "line", [b'GET "a', b"GET 'a", b'GET "a"b', b"GET a'", b'GET "a\\"', b"GET 'a\\'"]
)
def test_an_unbalanced_quote_is_a_fault(line: bytes) -> None:
    assert fault_of(line + b"\r\nPING\r\n") == "ERR Protocol error: unbalanced quotes in request"


def test_a_nul_byte_in_an_inline_command_is_a_fault() -> None:
    assert fault_of(b"GET a\0b\r\n") == "ERR Protocol error: NUL byte in inline request"


def test_nothing_after_a_fault_is_parsed_and_what_came_before_it_is() -> None:
    parser = new_parser()
    assert parser.feed(PING + b"*x\r\n" + PING) == [[b"PING"]]
    assert parser.fault is not None
    assert parser.feed(PING) == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1",
        b"post /x HTTP/1.1",
        b"POST / bla",
        b"Host: example.com",
        b"put /x HTTP/1.0",
    ],
)
def test_an_http_request_stops_the_parser_without_a_word(head: bytes) -> None:
    assert fault_of(head + b"\r\nHost: x\r\n\r\nFLUSHALL\r\n") == ""


def test_a_command_of_too_many_arguments_is_skipped_and_the_next_one_is_not() -> None:
    parser = new_parser()
    whole = b"*%d\r\n" % (ARGS_MAX + 1) + b"$1\r\nk\r\n" * (ARGS_MAX + 1)
    assert parser.feed(whole + PING) == [[], [b"PING"]]
    kept = b"*%d\r\n" % ARGS_MAX + b"$1\r\nk\r\n" * ARGS_MAX
    assert list(map(len, parser.feed(kept))) == [ARGS_MAX]


def test_the_arguments_of_one_command_are_bounded_together() -> None:
    argument = b"$%d\r\n%b\r\n" % (BULK_MAX, b"v" * BULK_MAX)
    assert fault_of(b"*50\r\n" + argument * 4) is None
    assert fault_of(b"*50\r\n" + argument * 4 + b"$1\r\n") == (
        "ERR Protocol error: too many bytes in one command "
        f"(outcome=not_applied bytes_max={4 * BULK_MAX})"
    )


# --- inline commands -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"SET k v", [b"SET", b"k", b"v"]),
        (b"  SET\tk   v  ", [b"SET", b"k", b"v"]),
        (b'SET k "a b"', [b"SET", b"k", b"a b"]),
        (b'SET k ""', [b"SET", b"k", b""]),
        (b"SET k ''", [b"SET", b"k", b""]),
        (b'"\\x00\\xff\\n\\r\\t\\b\\a\\"\\\\\\q"', [b'\x00\xff\n\r\t\b\a"\\q']),
        (b"'a\\'b\\n'", [b"a'b\\n"]),
        (b'pre"fix"', [b"prefix"]),
        (b"", []),
        (b"   ", []),
        ("SET k é".encode(), [b"SET", b"k", "é".encode()]),
    ],
)
def test_inline_words_follow_the_quoting_rules_of_redis(line: bytes, words: list[bytes]) -> None:
    assert new_parser().feed(line + b"\r\n") == ([words] if words else [])
    assert new_parser().feed(line + b"\n") == ([words] if words else [])


def test_inline_and_array_commands_may_be_mixed() -> None:
    assert new_parser().feed(b"PING\r\n" + PING + b"\r\n\r\necho 'a b'\n" + PING) == [
        [b"PING"],
        [b"PING"],
        [b"echo", b"a b"],
        [b"PING"],
    ]


# --- numbers and replies -------------------------------------------------------------------------


@given(st.integers(-(2**63) - 2, 2**63 + 1) | st.integers())
def test_an_integer_of_64_bits_has_one_text(number: int) -> None:
    text = b"%d" % number
    assert resp.parse_integer(text) == (number if -(2**63) <= number < 2**63 else None)
    for other in (b"+%b", b"0%b", b" %b", b"%b ", b"%b.0", b"%b\n", b"-0%b"):
        assert resp.parse_integer(other % text) is None


@pytest.mark.parametrize(
    "text",
    [
        *b"|+1|01|-0| 1|1 |1.5|1e3|1_000|0x1|\xd9\xa1|-".split(b"|"),
        b"9223372036854775808",
        b"-9223372036854775809",
        b"9" * 30,
    ],
)
def test_what_redis_does_not_take_for_an_integer_is_none(text: bytes) -> None:
    assert resp.parse_integer(text) is None


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(), st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


def decoded(data: bytes) -> object:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


def as_resp3(value: object) -> object:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [as_resp3(item) for item in value]
    if isinstance(value, dict):
        return {as_resp3(key): as_resp3(item) for key, item in value.items()}
    return value


def as_resp2(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return [as_resp2(item) for item in value]
    if isinstance(value, dict):
        return [as_resp2(each) for pair in value.items() for each in pair]
    return as_resp3(value)


@given(values)
def test_hiredis_reads_a_nested_reply_as_the_value_it_was_made_of(value: object) -> None:
    assert decoded(resp.encode(value, 3)) == as_resp3(value)
    assert decoded(resp.encode(value, 2)) == as_resp2(value)


@pytest.mark.parametrize(
    ("value", "two", "three"),
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (frozenset({"b", "a"}), b"*2\r\n+a\r\n+b\r\n", b"~2\r\n+a\r\n+b\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
    ],
)
def test_replies_take_the_form_of_the_protocol_version(
    value: object, two: bytes, three: bytes
) -> None:
    assert resp.encode(value, 2) == two
    assert resp.encode(value, 3) == three


@given(st.text())
def test_no_error_text_can_end_its_line_and_forge_another_reply(text: str) -> None:
    reply = resp.error(text)
    assert reply.startswith(b"-")
    assert reply.count(b"\r") == reply.count(b"\n") == 1
    assert reply.endswith(b"\r\n")
