# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive gives back what was written, and every cut and every changed bit is found."""

from __future__ import annotations

import io
import os
import random
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.cli.archive import (
    MAGIC,
    ArchiveChunk,
    ArchivedKey,
    ArchiveFault,
    ArchiveHeader,
    ArchiveReader,
    ArchiveWriter,
)
from quorate.core.values.record import EXPIRES_MS_MAX

HEADER = ArchiveHeader("quorate", ["a", "b"], b"", 1_700_000_000_000)
VERSION = bytes(13) + b"\1"
KEYS = st.builds(
    ArchivedKey,
    st.binary(min_size=1, max_size=40),
    st.binary(max_size=100),
    st.integers(0, EXPIRES_MS_MAX),
    st.binary(min_size=14, max_size=14),
)
CHUNKS = st.builds(ArchiveChunk, st.lists(KEYS, max_size=5), st.none() | st.text(min_size=1))


def chunk(number: int, cursor: str | None) -> ArchiveChunk:
    keys = [ArchivedKey(b"%d:%d" % (number, each), b"v" * each, 0, VERSION) for each in range(5)]
    return ArchiveChunk(keys, cursor)


def written(path: Path, *chunks: ArchiveChunk, is_whole: bool = True) -> bytes:
    with ArchiveWriter(str(path), HEADER) as archive:
        for each in chunks:
            archive.add(each)
        if is_whole:
            archive.finish()
    return path.read_bytes()


def read(content: bytes) -> list[ArchiveChunk]:
    reader = ArchiveReader(io.BytesIO(content), "a")
    assert reader.header == HEADER
    return list(reader.chunks())


def fault(content: bytes) -> str:
    with pytest.raises(ArchiveFault) as raised:
        read(content)
    return str(raised.value)


@given(chunks=st.lists(CHUNKS, max_size=5))
def test_what_was_written_is_read(
    chunks: list[ArchiveChunk], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("archive") / "a"
    written(path, *chunks)
    assert read(path.read_bytes()) == chunks


def test_every_cut_is_found_and_what_is_whole_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = written(path, chunk(1, "1"), chunk(2, ""))
    said: set[str] = set()
    for length in range(len(content)):
        said.add(fault(content[:length]))
    assert said == {
        "a: not an archive of quorate backup; nothing was done",
        *(
            f"a: cut short: it has {whole} and no end; go on with quorate backup into the same"
            " file, or take another archive"
            for whole in (
                "0 whole chunks of 0 keys",
                "1 whole chunk of 5 keys",
                "2 whole chunks of 10 keys",
            )
        ),
    }


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = written(path, chunk(1, "1"), chunk(2, ""))
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            fault(bytes(flipped))


def test_chunks_that_are_moved_left_out_or_doubled_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    start = len(written(path, is_whole=False))
    path.unlink()
    first = len(written(path, chunk(1, "1"), is_whole=False))
    path.unlink()
    second = len(written(path, chunk(1, "1"), chunk(2, ""), is_whole=False))
    path.unlink()
    content = written(path, chunk(1, "1"), chunk(2, ""))
    head, end = content[:start], content[second:]
    one, two = content[start:first], content[first:second]
    for changed in (head + two + one + end, head + one + end, head + one + one + two + end):
        assert "damaged at byte" in fault(changed)
    assert "damaged at byte" in fault(content + b"\0")


def test_wherever_it_was_cut_it_is_gone_on_with_behind_the_last_whole_page(tmp_path: Path) -> None:
    path = tmp_path / "a"
    chunks = [chunk(1, None), chunk(2, "2"), chunk(3, None), chunk(4, "")]
    start = len(written(path, is_whole=False))
    content = written(path, *chunks, is_whole=False)
    cursors: set[str | None] = set()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length] + (b"" if length < start else b"torn"[: length % 5]))
        with ArchiveWriter(str(path), HEADER) as archive:
            cursors.add(archive.cursor)
            done = {None: 0, "2": 2, "": 4}[archive.cursor]
            assert archive.has_begun == (done > 0)
            assert archive.keys == 5 * done
            for each in chunks[done:]:
                archive.add(each)
            archive.finish()
        assert read(path.read_bytes()) == chunks
    assert cursors == {None, "2", ""}


def test_what_is_behind_a_damaged_chunk_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = bytearray(written(path, chunk(1, "1"), chunk(2, "2"), is_whole=False))
    content[-1] ^= 1
    path.write_bytes(content)
    with ArchiveWriter(str(path), HEADER) as archive:
        assert archive.cursor == "1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a file of mine", "not an archive of quorate backup"),
        (b"quorate archive 2\nmore", "of format 2, and this release reads format 1"),
        (MAGIC + b"H\0\0\0\1" + bytes(5000), "damaged at byte 18"),
        (MAGIC + b"H\0\xff\0\0" + bytes(5000), "cut short: it has 0 whole chunks"),
    ],
)
def test_a_file_that_is_none_of_ours_stays_as_it_is(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ArchiveFault, match=said):
        ArchiveWriter(str(path), HEADER)
    assert path.read_bytes() == content
    assert said in fault(content)


def test_a_whole_archive_and_one_of_other_keys_are_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = written(path, chunk(1, ""))
    for header, said in (
        (HEADER, "it is whole already, with 5 keys"),
        (ArchiveHeader("quorate", ["a"], b"app:", 1), "of the keys that begin with ''"),
        (ArchiveHeader("other", ["a"], b"", 1), "of another cluster, 'quorate'"),
        (ArchiveHeader("quorate", ["c"], b"", 1), "of another cluster, 'quorate'"),
    ):
        with pytest.raises(ArchiveFault, match=said):
            ArchiveWriter(str(path), header)
    assert path.read_bytes() == content


def test_a_cluster_with_a_member_of_then_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a"
    written(path, chunk(1, "1"), is_whole=False)
    with ArchiveWriter(str(path), ArchiveHeader("quorate", ["b", "c"], b"", 2)) as archive:
        assert (archive.header, archive.cursor) == (HEADER, "1")


def test_one_process_writes_an_archive_at_a_time(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    with (
        ArchiveWriter(path, HEADER),
        pytest.raises(ArchiveFault, match="another process writes it"),
    ):
        ArchiveWriter(path, HEADER)


def test_an_archive_is_for_its_owner_alone_and_no_pipe(tmp_path: Path) -> None:
    path = tmp_path / "a"
    written(path)
    assert path.stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArchiveFault, match="it is no file"):
        ArchiveWriter(str(tmp_path / "pipe"), HEADER)


def test_where_there_is_no_room_it_says_so_and_is_gone_on_with_later(tmp_path: Path) -> None:
    path = tmp_path / "a"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    large = ArchivedKey(b"k", random.Random(1).randbytes(10_000), 0, VERSION)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        with ArchiveWriter(str(path), HEADER) as archive:
            archive.add(chunk(1, "1"))
            with pytest.raises(ArchiveFault, match=r"File too large, behind .*; make room"):
                archive.add(ArchiveChunk([large], "2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.stat().st_size == 5000
    with ArchiveWriter(str(path), HEADER) as archive:
        assert archive.cursor == "1"
