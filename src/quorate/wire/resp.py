# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis protocol without sockets: commands in, replies out.

Source: redis.io, "Redis serialization protocol specification". Invariants of the parser: the same
commands come out however the bytes were cut; a length is believed only when the bytes it promises
are there, so a header allocates nothing; the work is linear in the bytes fed, even one at a time;
after a fault nothing more is parsed. Stricter than Redis: a bulk string must end in CRLF, and bytes
that begin another RESP type, NUL bytes and HTTP requests are no inline commands.

Most chunks hold whole commands with plain arguments: short ones, with nothing odd in their headers.
Those are read where they lie, and their arguments alone are copied; only what is not plain (a half
command, a large value, an inline command, a fault) goes through the exact parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

CRLF: Final = b"\r\n"
ARGS_MAX: Final = 65_536
"""Arguments kept of one command."""
ARGS_SKIPPED_MAX: Final = 1024 * 1024
"""Above ARGS_MAX and up to here a command is read, thrown away and refused; beyond, a fault."""
INLINE_BYTES_MAX: Final = 64 * 1024
STRANGER_ARGS_MAX: Final = 10
STRANGER_BULK_BYTES_MAX: Final = 16 * 1024
"""Of a command before login, as in Redis."""
_HEADER_BYTES_MAX: Final = 64
_ARG_OVERHEAD_BYTES: Final = 48
"""What an argument takes beside its bytes."""
COMMAND_BULKS_MAX: Final = 4
"""All arguments of a command together, in the largest bulk strings."""

_FAST_ARGS_MAX: Final = 64
_FAST_BYTES_MAX: Final = 4096
_ALONE_ARGS_MAX: Final = 9
_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_0: Final = 0x30
_9: Final = 0x39
_CR: Final = 0x0D
_LF: Final = 0x0A

INT64: Final = range(-(1 << 63), 1 << 63)
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_NOT_INLINE: Final = b"$%#,|>~(=!_:+-"
"""First bytes of RESP types that are no commands; what follows them must not be read as any."""
_INLINE_WORD: Final = re.compile(
    rb"""[ \t\r\n]*+([^ \t\r\n"']*+)(?>(?:"([^"\\]*+(?>(?:\\.[^"\\]*+)*))"|"""
    rb"""'([^'\\]*+(?>(?:\\'?[^'\\]*+)*))')?)(?=[ \t\r\n]|\Z)""",
    re.DOTALL,
)
_NO_COMMANDS: Final = re.compile(rb"(?>(?:[ \t\r]{0,64}+\n|\*(?:0|-[1-9]\d{0,17})\r\n){0,32768})")
"""Blank lines and empty arrays, passed many at once (each takes some 130 bytes meanwhile): as none
fills a window, their sender is read on and on. Of long ones, passed one by one, few fit a chunk."""
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}

CommandArgs = list[bytes]
"""A command's name and arguments. Empty: there were more than ARGS_MAX, and were thrown away."""


def parse_integer(data: bytes) -> int | None:
    """The 64-bit integer in `data` as Redis writes it (no sign but minus, no leading zero)."""
    if _INTEGER.fullmatch(data) and (value := int(data)) in INT64:
        return value
    return None


def split_inline(line: bytes) -> CommandArgs | None:
    """The words of an inline command by Redis's quoting rules; None if a quote is unbalanced."""
    words: CommandArgs = []
    at = 0
    while found := _INLINE_WORD.match(line, at):
        plain, double, single = found.groups()
        if not plain and double is None and single is None:
            break
        at = found.end()
        if double is not None:
            plain += _ESCAPE.sub(_unescape, double)
        elif single is not None:
            plain += single.replace(b"\\'", b"'")
        words.append(plain)
    return words if not line[at:].strip() else None


def _unescape(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes.fromhex(found[1].decode())
    return _ESCAPED.get(found[2], found[2])


def _plain_number(data: bytes, at: i64) -> tuple[i64, i64]:
    """The number that stands at `at` before a CRLF, and where what follows the CRLF begins; (0, 0)
    if there is no number as Redis writes it, up to _FAST_BYTES_MAX or little above.

    Of native integers and indices, which never leave the data, a byte takes a few instructions.
    """
    size: i64 = len(data)
    start: i64 = at
    number: i64 = 0
    while at < size:
        digit: i64 = data[at]
        if digit < _0 or digit > _9:
            break
        if number > _FAST_BYTES_MAX or (at > start and not number):
            return 0, 0
        number = number * 10 + digit - _0
        at += 1
    if at == start or at + 2 > size or data[at] != _CR or data[at + 1] != _LF:
        return 0, 0
    return number, at + 2


def _plain_argument(data: bytes, at: i64) -> tuple[i64, i64]:
    """Where the bytes of the argument begin and end whose header stands at `at`; (0, 0) if it is
    not plain, or not whole."""
    size: i64 = len(data)
    if at >= size or data[at] != _DOLLAR:
        return 0, 0
    length, start = _plain_number(data, at + 1)
    end: i64 = start + length
    if not start or length > _FAST_BYTES_MAX or end + 2 > size:
        return 0, 0
    if data[end] != _CR or data[end + 1] != _LF:
        return 0, 0
    return start, end


def plain_command(data: bytes) -> CommandArgs | None:
    """The one plain command, of few arguments, that `data` is; None if it is anything else.

    GET and SET, not pipelined, are most of what comes.
    """
    if not data or data[0] != _STAR:
        return None
    count, at = _plain_number(data, 1)
    if count > _ALONE_ARGS_MAX:
        return None
    args: CommandArgs = []
    while count:
        start, end = _plain_argument(data, at)
        if not end:
            return None
        args.append(data[start:end])
        at = end + 2
        count -= 1
    return args if args and at == len(data) else None


class CommandParser:
    """Cuts what a client sends into commands."""

    __slots__ = (
        "_args",
        "_args_bytes",
        "_at",
        "_buffer",
        "_bulk",
        "_bulk_bytes_max",
        "_command_bytes_max",
        "_missing",
        "_seen",
        "_skipping",
        "_value_bytes_max",
        "fault",
        "is_partial",
        "is_strict",
    )

    def __init__(self, *, bulk_bytes_max: int, value_bytes_max: int) -> None:
        self._value_bytes_max = value_bytes_max
        """The limit that clients are told; what is a little over it, others refuse."""
        # What the fast path takes without a look at the limits must be within them.
        self._bulk_bytes_max = max(bulk_bytes_max, _FAST_ARGS_MAX * _FAST_BYTES_MAX)
        self._command_bytes_max = COMMAND_BULKS_MAX * self._bulk_bytes_max
        self._buffer = bytearray()
        self._at = 0
        """Everything before was parsed."""
        self._seen = 0
        """No inline command ends before here, so that its pieces are not searched again."""
        self._args: CommandArgs = []
        self._args_bytes = 0
        self._missing = 0
        """Arguments of the current command still to come; 0 between commands."""
        self._bulk = -1
        """Length of the argument being read; -1 while its header is."""
        self._skipping = False
        self.is_partial = False
        """Whether the last command is incomplete."""
        self.fault: str | None = None
        """Why nothing more is parsed: an error text for the client, or empty to say nothing."""
        self.is_strict = False
        """Whether it is a stranger's: a command is short, and the next is parsed by another `feed`,
        as the answer to this one may be that its sender is a stranger no more."""

    def feed(self, data: bytes) -> list[CommandArgs]:
        """The commands that `data` completes, in order. Look at `fault` afterwards."""
        commands: list[CommandArgs] = []
        if self.fault is not None:
            return commands
        if self.is_strict:
            self._buffer += data
            while not commands and self._parse_one(commands):
                pass
            self._compact()
            return commands
        if self.is_partial:
            self._buffer += data
            if not self._parse_one(commands):
                self._compact()
                return commands
            data = bytes(memoryview(self._buffer)[self._at :])
            self._buffer = bytearray()
            self._at = self._seen = 0
            self.is_partial = False
        rest = _split_plain(data, commands)
        if rest < len(data):
            self._buffer += data[rest:] if rest else data
            while self._parse_one(commands):
                pass
            self._compact()
        return commands

    @property
    def held_bytes(self) -> int:
        """Memory that the incomplete command takes, about; what a header promises takes none."""
        promised = 0 if self._skipping else max(self._bulk, 0)
        arrived = len(self._buffer) + self._args_bytes - promised
        return arrived + _ARG_OVERHEAD_BYTES * len(self._args)

    def stop(self, fault: str) -> None:
        """Parse nothing more, as after a fault."""
        if self.fault is None:
            self.fault = fault
        self._compact()

    def _compact(self) -> None:
        if self.fault is not None:
            self._buffer = bytearray()
            self._args = []
            self._args_bytes = self._missing = self._at = self._seen = 0
            self._bulk = -1
        elif self._at:
            del self._buffer[: self._at]
            self._seen = max(self._seen - self._at, 0)
            self._at = 0
        self.is_partial = bool(self._buffer) or self._missing > 0

    def _parse_one(self, commands: list[CommandArgs]) -> bool:
        """Finish one command (or something to be ignored). False: more bytes, or a fault."""
        if not self._missing:
            if self._at == len(self._buffer) or self.fault is not None:
                return False
            if self._buffer[self._at] != 0x2A:
                return self._parse_inline(commands)
            line = self._header_line("too big mbulk count string")
            if line is None:
                return False
            count = self._begin(line)
            if not count:
                return count is not None
        if self._missing > _FAST_ARGS_MAX and self._bulk < 0:
            self._take_plain()
        while self._missing:
            if not self._parse_argument():
                return False
        commands.append([] if self._skipping else self._args)
        self._args = []
        self._args_bytes = 0
        return True

    def _begin(self, line: bytes) -> int | None:
        """Take an array header: how many arguments come; 0 for an empty array, which is ignored,
        None for a fault."""
        count = parse_integer(line[1:])
        if count is None or count > ARGS_SKIPPED_MAX:
            limit = f" (outcome=not_applied arguments_max={ARGS_MAX})" if count else ""
            self._fail(f"invalid multibulk length{limit}")
            return None
        if self.is_strict and count > STRANGER_ARGS_MAX:
            self._fail("unauthenticated multibulk length")
            return None
        self._missing = max(count, 0)
        self._skipping = count > ARGS_MAX
        if not self._missing and (ignored := _NO_COMMANDS.match(self._buffer, self._at)):
            self._at = ignored.end()
        return self._missing

    def _take_plain(self) -> None:
        """Take the plain arguments that come next in a long command, as `_split_plain` would.

        Looks at a stretch in proportion to what is missing, so that many commands are linear too.
        """
        stretch = bytes(memoryview(self._buffer)[self._at : self._at + 32 * self._missing])
        if self._args_bytes + len(stretch) > self._command_bytes_max:
            return
        at: i64 = 0
        while self._missing:
            start, end = _plain_argument(stretch, at)
            if not end:
                break
            at = end + 2
            self._missing -= 1
            if not self._skipping:
                self._args_bytes += end - start
                self._args.append(stretch[start:end])
        self._at += at

    def _parse_argument(self) -> bool:
        if self._bulk < 0:
            line = self._header_line("too big bulk count string")
            if line is None:
                return False
            if line[:1] != b"$":
                return self._fail(f"expected '$', got '{_printable(line[:1])}'")
            length = parse_integer(line[1:])
            if length is None or length < 0:
                return self._fail("invalid bulk length")
            if self.is_strict and length > STRANGER_BULK_BYTES_MAX:
                return self._fail("unauthenticated bulk length")
            if length > self._bulk_bytes_max:
                return self._fail(
                    "invalid bulk length: an argument is too large (outcome=not_applied "
                    f"bytes={length} bytes_max={self._value_bytes_max})"
                )
            self._args_bytes += 0 if self._skipping else length
            if self._args_bytes > self._command_bytes_max:
                return self._fail(
                    "too many bytes in one command "
                    f"(outcome=not_applied bytes_max={self._command_bytes_max})"
                )
            self._bulk = length
        start, end = self._at, self._at + self._bulk
        if len(self._buffer) < end + 2:
            return False
        if self._buffer[end : end + 2] != CRLF:
            return self._fail("bulk string without its CRLF")
        if not self._skipping:
            self._args.append(bytes(memoryview(self._buffer)[start:end]))
        self._at = end + 2
        self._bulk = -1
        self._missing -= 1
        return True

    def _header_line(self, too_long: str) -> bytes | None:
        end = self._buffer.find(CRLF, self._at, self._at + _HEADER_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - self._at >= _HEADER_BYTES_MAX:
                self._fail(too_long)
            return None
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _parse_inline(self, commands: list[CommandArgs]) -> bool:
        if self._buffer[self._at] in _NOT_INLINE:
            return self._fail(f"expected '*', got '{chr(self._buffer[self._at])}'")
        end = self._buffer.find(b"\n", max(self._at, self._seen))
        bytes_max = STRANGER_BULK_BYTES_MAX if self.is_strict else INLINE_BYTES_MAX
        if (end if end >= 0 else len(self._buffer)) - self._at > bytes_max:
            return self._fail("too big inline request")
        if end < 0:
            self._seen = len(self._buffer)
            return False
        line = bytes(self._buffer[self._at : end])
        self._at = end + 1
        words = split_inline(line)
        if words is None:
            return self._fail("unbalanced quotes in request")
        if b"\0" in line:
            return self._fail("NUL byte in inline request")
        if _is_http(words):
            self.fault = ""
            return False
        if words:
            commands.append(words)
        elif ignored := _NO_COMMANDS.match(self._buffer, self._at):
            self._at = ignored.end()
        return True

    def _fail(self, text: str) -> bool:
        self.fault = f"ERR Protocol error: {text}"
        return False


def _split_plain(data: bytes, commands: list[CommandArgs]) -> int:
    """Add the plain commands that `data` begins with; how many bytes they took."""
    size: i64 = len(data)
    begin: i64 = 0
    while begin < size and data[begin] == _STAR:
        count, at = _plain_number(data, begin + 1)
        if not count or count > _FAST_ARGS_MAX:
            break
        args: CommandArgs = []
        while count:
            start, end = _plain_argument(data, at)
            if not end:
                return begin
            args.append(data[start:end])
            at = end + 2
            count -= 1
        commands.append(args)
        begin = at
    return begin


def _is_http(words: CommandArgs) -> bool:
    # A web page can make a browser send these; its body lines must never run as commands.
    return bool(words) and (
        words[0].lower() in (b"post", b"host:") or words[-1].startswith(b"HTTP/")
    )


def _printable(data: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in data)


# --- replies -----------------------------------------------------------------------------------

OK: Final = b"+OK\r\n"
NULL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
"""The null reply by protocol version."""


def simple(text: str) -> bytes:
    """A status reply, for texts of ours."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """An error reply. Line ends and control bytes from clients cannot forge another reply."""
    return b"-%b\r\n" % "".join(c if c.isprintable() else " " for c in text).encode()


def integer(value: int) -> bytes:
    """An integer reply."""
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    """A bulk string reply."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(items: Sequence[bytes]) -> bytes:
    """An array of replies already encoded."""
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def encode(value: object, protocol: int) -> bytes:
    """The reply for a nested Python value, as protocol 2 or 3 has it.

    None is null, str and bytes are bulk strings, a mapping is a map, a set a set of simple strings.
    """
    parts: list[bytes] = []
    _encode(value, protocol, parts)
    return b"".join(parts)


def _encode(value: object, protocol: int, parts: list[bytes]) -> None:
    if value is None:
        parts.append(NULL[protocol])
    elif isinstance(value, bytes):
        parts.append(bulk(value))
    elif isinstance(value, str):
        parts.append(bulk(value.encode()))
    elif isinstance(value, bool):
        parts.append(b"#%b\r\n" % (b"t" if value else b"f") if protocol == 3 else integer(value))
    elif isinstance(value, int):
        parts.append(integer(value))
    elif isinstance(value, float):
        text = repr(value).encode()
        parts.append(b",%b\r\n" % text if protocol == 3 else bulk(text))
    else:
        _encode_aggregate(value, protocol, parts)


def _encode_aggregate(value: object, protocol: int, parts: list[bytes]) -> None:
    if isinstance(value, Mapping):
        count = len(value)
        parts.append(b"%%%d\r\n" % count if protocol == 3 else b"*%d\r\n" % (2 * count))
        for key, item in value.items():
            _encode(key, protocol, parts)
            _encode(item, protocol, parts)
    elif isinstance(value, AbstractSet):
        parts.append(b"%b%d\r\n" % (b"~" if protocol == 3 else b"*", len(value)))
        parts.extend(simple(str(item)) for item in sorted(value))
    elif isinstance(value, Sequence):
        parts.append(b"*%d\r\n" % len(value))
        for item in value:
            _encode(item, protocol, parts)
    else:
        raise TypeError(f"no reply for {type(value).__name__}")
