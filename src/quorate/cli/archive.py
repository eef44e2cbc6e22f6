# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive: keys with their values in one file, of which every byte is checked.

It begins with a line of text that has the number of the format. Frames follow: one header, chunks,
one trailer. A frame is its kind (a byte), the length of its payload (4 bytes), a digest (16 bytes)
and the payload: MessagePack, compressed with zlib. Each digest is BLAKE2b over the digest before
it, the kind, the length and the payload, so the trailer's stands for the whole file: nothing can be
changed, left out, doubled or moved unnoticed. It does not tell who wrote it.

An archive without a trailer is cut short. It can be gone on with: `cursor` of a chunk is where the
listing of keys went on after it. A chunk without one is in the midst of a page, and what follows
the last chunk that has one is written again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, TypeVar

import msgspec

from quorate.notation import show_bytes, show_count, show_size, show_text

_NAME: Final = b"quorate archive "
MAGIC: Final = _NAME + b"1\n"
_HEAD: Final = struct.Struct(">cI16s")
_PAYLOAD_BYTES_MAX: Final = 64 << 20
"""Compressed or not. A chunk is one answer to a batch of reads: at most 24 MiB of values, and
their keys."""
_HEADER_BYTES_MAX: Final = 4096
"""Of the header's frame, with the line before it: a prefix of 1 KiB, a name of 64 letters."""
_LEVEL: Final = 1
"""Of zlib: half the size of text for little time; more levels save little more."""
_HEADER, _CHUNK, _TRAILER = b"H", b"C", b"T"


class ArchiveFault(Exception):
    """What is wrong with an archive, in one line that says what to do."""


class ArchiveHeader(msgspec.Struct, frozen=True, array_like=True):
    """What an archive is of."""

    cluster: str
    nodes: list[str]
    """The ids of the members then: a name is not of one cluster alone, most have the default."""
    prefix: bytes
    began_ms: int


class ArchivedKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key as it was when it was read. `expires_ms` is absolute; 0: never."""

    key: bytes
    value: bytes
    expires_ms: int
    version: bytes


class ArchiveChunk(msgspec.Struct, frozen=True, array_like=True):
    """Some keys. `cursor`: where the next page of keys begins, "" after the last; None: this page
    goes on in the next chunk."""

    keys: list[ArchivedKey]
    cursor: str | None


class ArchiveTrailer(msgspec.Struct, frozen=True, array_like=True):
    """The whole of an archive."""

    keys: int
    chunks: int
    ended_ms: int


Payload = TypeVar("Payload", ArchiveHeader, ArchiveChunk, ArchiveTrailer)


class _Place(NamedTuple):
    """Behind a frame: all that is needed to write or read the next one."""

    offset: int
    digest: bytes
    keys: int = 0
    chunks: int = 0
    cursor: str | None = None
    """None: no page is complete yet."""


class ArchiveReader:
    """Reads an archive frame by frame. ArchiveFault as soon as a frame is not what was written."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._place = _Place(len(MAGIC), b"")
        file.seek(0)
        found = self._read(len(MAGIC))
        if found != MAGIC:
            raise ArchiveFault(_not_ours(found, name))
        kind, payload = self._frame()
        if kind != _HEADER:
            raise self._damaged()
        self.header = self._decoded(payload, ArchiveHeader)
        self.page_end = self._place
        """Behind the last chunk that ends a page."""
        self.trailer: ArchiveTrailer | None = None

    def chunks(self) -> Iterator[ArchiveChunk]:
        """Every chunk; the trailer is there when they end."""
        while True:
            before = self._place
            kind, payload = self._frame()
            if kind == _TRAILER:
                self.trailer = self._ended(payload, before)
                return
            if kind != _CHUNK:
                raise self._damaged()
            chunk = self._decoded(payload, ArchiveChunk)
            self._place = self._place._replace(
                keys=before.keys + len(chunk.keys), chunks=before.chunks + 1, cursor=chunk.cursor
            )
            if chunk.cursor is not None:
                self.page_end = self._place
            yield chunk

    def _ended(self, payload: bytes, before: _Place) -> ArchiveTrailer:
        trailer = self._decoded(payload, ArchiveTrailer)
        if (trailer.keys, trailer.chunks) != (before.keys, before.chunks) or self._read(1):
            raise self._damaged()
        return trailer

    def _frame(self) -> tuple[bytes, bytes]:
        head = self._read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise self._cut_short()
        kind, length, digest = _HEAD.unpack(head)
        if kind not in (_HEADER, _CHUNK, _TRAILER) or length > _PAYLOAD_BYTES_MAX:
            raise self._damaged()
        payload = self._read(length)
        if len(payload) < length:
            raise self._cut_short()
        if digest != _digest(self._place.digest, kind, payload):
            raise self._damaged()
        offset = self._place.offset + len(head) + length
        self._place = self._place._replace(offset=offset, digest=digest)
        return kind, payload

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except OSError as fault:
            where = f"{self._name}: {fault.strerror}, behind byte {self._place.offset:,}"
            raise ArchiveFault(where) from None

    def _decoded(self, payload: bytes, kind: type[Payload]) -> Payload:
        try:
            unpacking = zlib.decompressobj()
            raw = unpacking.decompress(payload, _PAYLOAD_BYTES_MAX)
            if not unpacking.eof or unpacking.unused_data:
                raise self._damaged()
            return msgspec.msgpack.decode(raw, type=kind)
        except (zlib.error, msgspec.DecodeError):
            raise self._damaged() from None

    def _cut_short(self) -> ArchiveFault:
        return ArchiveFault(
            f"{self._name}: cut short: it has {self._sound()} and no end; go on with quorate backup"
            " into the same file, or take another archive"
        )

    def _damaged(self) -> ArchiveFault:
        return ArchiveFault(
            f"{self._name}: damaged at byte {self._place.offset:,}, behind {self._sound()}; take"
            " another copy of it, or another archive"
        )

    def _sound(self) -> str:
        place = self._place
        return f"{show_count(place.chunks, 'whole chunk')} of {show_count(place.keys, 'key')}"


class ArchiveWriter:
    """Begins an archive, or goes on with one that was cut short. A context manager: it holds a lock
    on the file."""

    def __init__(self, path: str, header: ArchiveHeader) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            self.header, self._place = self._begun(header)
        except BaseException:
            self._file.close()
            raise
        self.has_begun = self._place.cursor is not None
        """Whether some of it was there before."""

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def keys(self) -> int:
        """Keys in it."""
        return self._place.keys

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._place.offset

    @property
    def cursor(self) -> str | None:
        """Where the listing goes on; "" if it has ended, None if it has not begun."""
        return self._place.cursor

    def add(self, chunk: ArchiveChunk) -> None:
        """Append a chunk."""
        self._append(_CHUNK, chunk)
        place = self._place
        self._place = place._replace(
            keys=place.keys + len(chunk.keys), chunks=place.chunks + 1, cursor=chunk.cursor
        )

    def finish(self) -> ArchiveTrailer:
        """Append the trailer; the archive is whole, and on disk, when this returns."""
        trailer = ArchiveTrailer(self._place.keys, self._place.chunks, time.time_ns() // 10**6)
        self._append(_TRAILER, trailer)
        os.fsync(self._file.fileno())
        directory = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return trailer

    def _begun(self, header: ArchiveHeader) -> tuple[ArchiveHeader, _Place]:
        """The header in force, and where to go on."""
        if _holds_nothing(self._file):
            self._file.seek(0)
            self._file.truncate()
            self._place = _Place(0, b"")
            self._write(MAGIC + _framed(_HEADER, b"", payload := _packed(header)))
            return header, self._place._replace(digest=_digest(b"", _HEADER, payload))
        with open(os.dup(self._file.fileno()), "rb") as file:
            reader = ArchiveReader(file, self.path)
            self._check_same(header, reader.header)
            return reader.header, self._page_end(reader)

    def _check_same(self, header: ArchiveHeader, old: ArchiveHeader) -> None:
        if old.prefix != header.prefix:
            raise ArchiveFault(
                f"{self.path}: it is of the keys that begin with '{show_bytes(old.prefix)}';"
                " ask for the same, or name another file"
            )
        if old.cluster != header.cluster or not set(old.nodes) & set(header.nodes):
            raise ArchiveFault(
                f"{self.path}: it is of another cluster, '{show_text(old.cluster)}', of which no"
                " member is in this one; name another file"
            )

    def _page_end(self, reader: ArchiveReader) -> _Place:
        """Where the pages that are whole end; what is behind is cut off."""
        try:
            for _ in reader.chunks():
                pass
        except ArchiveFault:
            # Cut short, as by a kill, or torn, as by a power cut: what is behind is written anew.
            self._file.seek(reader.page_end.offset)
            self._file.truncate()
            return reader.page_end
        raise ArchiveFault(
            f"{self.path}: it is whole already, with {show_count(reader.page_end.keys, 'key')};"
            " name another file"
        )

    def _append(self, kind: bytes, frame: ArchiveChunk | ArchiveTrailer) -> None:
        payload, before = _packed(frame), self._place.digest
        self._write(_framed(kind, before, payload))
        self._place = self._place._replace(digest=_digest(before, kind, payload))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as fault:
            raise ArchiveFault(
                f"{self.path}: {fault.strerror}, behind {show_size(self.size)} of it; make room,"
                " and run the same command again: it goes on from there"
            ) from None
        self._place = self._place._replace(offset=self._place.offset + len(data))


def _opened(path: str) -> BinaryIO:
    """The file to write to, locked, and made for its owner alone if there is none."""
    import fcntl  # Late: Windows has none, where archives are read alone.

    try:
        # Non-blocking: a pipe that nobody reads would hold it up, and is refused below.
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as fault:
        raise ArchiveFault(f"{path}: {fault.strerror}; name a file") from None
    # Unbuffered: what a full disk did not take is not tried again when the file is closed.
    file = open(number, "r+b", buffering=0)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise ArchiveFault(f"{path}: it is no file; name one, of which there need be none yet")
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ArchiveFault(f"{path}: another process writes it; wait until it has ended") from None
    except OSError as fault:
        file.close()
        raise ArchiveFault(f"{path}: it cannot be locked: {fault.strerror}") from None
    return file


def _holds_nothing(file: BinaryIO) -> bool:
    """Whether a file is empty, or the beginning of an archive, cut off within its header."""
    file.seek(0)
    start = file.read(len(MAGIC) + _HEAD.size)
    if len(start) < len(MAGIC) + _HEAD.size:
        return start[: len(MAGIC)] == MAGIC[: len(start)]
    size, length = os.fstat(file.fileno()).st_size, _HEAD.unpack(start[len(MAGIC) :])[1]
    return start.startswith(MAGIC) and size < min(len(start) + length, _HEADER_BYTES_MAX)


def _not_ours(found: bytes, name: str) -> str:
    number = found[len(_NAME) :].strip()
    if found.startswith(_NAME) and number.isdigit() and number != b"1":
        return (
            f"{name}: an archive of format {number.decode()}, and this release reads format 1; use"
            " the release that wrote it, or a later one"
        )
    return f"{name}: not an archive of quorate backup; nothing was done"


def _packed(frame: ArchiveHeader | ArchiveChunk | ArchiveTrailer) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(frame), _LEVEL)


def _framed(kind: bytes, before: bytes, payload: bytes) -> bytes:
    return _HEAD.pack(kind, len(payload), _digest(before, kind, payload)) + payload


def _digest(before: bytes, kind: bytes, payload: bytes) -> bytes:
    digest = hashlib.blake2b(before, digest_size=16)
    digest.update(kind + len(payload).to_bytes(4, "big"))
    digest.update(payload)
    return digest.digest()
