# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate backup: read all keys through any node, and write them to an archive.

It is no picture of one moment. Each key is in it as it was at some time between begin and end. One
that was there throughout is in it: a page of keys that may lack one is asked for again, and in the
end a failure; and reads see the newest write where R + W > N.

One request at a time, of which the node reads a few keys at once: clients are not to notice much.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from quorate.cli.archive import (
    ArchiveChunk,
    ArchivedKey,
    ArchiveFault,
    ArchiveHeader,
    ArchiveTrailer,
    ArchiveWriter,
)
from quorate.cli.arguments import Given
from quorate.cli.cluster import show_utc
from quorate.cli.connect import whole_number
from quorate.cli.output import complain, print_json
from quorate.cli.patience import KeyRate, patient_client, patiently, read_keys
from quorate.cli.progress import ProgressMeter
from quorate.client.blocking import Client
from quorate.client.calls import PAGE_KEYS, Call, KeyPage, Value, options, read_get, read_json
from quorate.errors import PeerProtocolError, QuorateError, QuorumUnreachable
from quorate.notation import show_bytes, show_count, show_size
from quorate.wire.http import quote

_CLUSTER: Final = re.compile(rb'^quorate_node_info\{[^}]*\bcluster="([^"]{1,64})"', re.MULTILINE)
_PAGE_BYTES: Final = 16 << 20
"""Of values. Pages of large ones get smaller: what is cut off in the midst of one is read again."""


def run_backup(given: Given) -> int:
    """Write an archive to its end."""
    with patient_client(given) as client:
        reading = _Reading(client, given, os.fsencode(given.get("prefix", "")))
        # Without patience: whoever mistyped a URL is told at once, and nothing has been done yet.
        header = reading.header()
        if reading.is_eventual():
            _note(
                "a read here may miss the newest write, as R + W is not more than N: ask for more"
                " replicas with --R"
            )
        try:
            with ArchiveWriter(given["archive"], header) as archive:
                trailer = _written(archive, reading)
                return _tell(given, archive, trailer)
        except ArchiveFault as fault:
            return complain(str(fault), code="archive", is_json="json" in given)


def _written(archive: ArchiveWriter, reading: _Reading) -> ArchiveTrailer:
    if archive.has_begun:
        began, keys = show_utc(archive.header.began_ms), show_count(archive.keys, "key")
        _note(f"{archive.path}: goes on behind {keys}; it was begun {began}")
    try:
        with ProgressMeter("keys", total=None) as progress:
            for chunk in reading.chunks(archive.cursor):
                archive.add(chunk)
                progress.advance(show_size(archive.size), count=len(chunk.keys))
        return archive.finish()
    except (QuorateError, KeyboardInterrupt):
        keys = show_count(archive.keys, "key")
        _note(f"{archive.path} has {keys} so far; the same command goes on from there")
        raise


class _Reading:
    """Reads the keys of a cluster, a page at a time."""

    def __init__(self, client: Client, given: Given, prefix: bytes) -> None:
        self._client = client
        self._prefix = prefix
        self._r = whole_number(given, "R", low=1)
        self._pace = KeyRate(given)
        self._limit = PAGE_KEYS

    def header(self) -> ArchiveHeader:
        """Of what an archive would be that is begun now."""
        members = read_json(self._client.request(Call("GET", "/nodes")))
        name = _CLUSTER.search(self._client.request(Call("GET", "/metrics")).body)
        try:
            nodes = [str(each["id"]) for each in members if each["id"]]
        except (TypeError, KeyError):
            nodes = []
        if name is None or not nodes:
            raise PeerProtocolError("the answer is not a node's: it does not say which cluster")
        return ArchiveHeader(name[1].decode(), nodes, self._prefix, time.time_ns() // 10**6)

    def is_eventual(self) -> bool:
        """Whether reads may miss a finished write. Raises what a read ends with, as for an R above
        N."""
        # Some key that whoever may read those of the archive may read, there or not.
        key = quote(self._prefix or b"quorate")
        answer = self._client.request(Call("GET", f"/kv?key={key}{options(r=self._r)}"))
        read_get(answer)
        return answer.headers.get("quorate-consistency") == "eventual"

    def chunks(self, cursor: str | None) -> Iterator[ArchiveChunk]:
        """All that follows `cursor`."""
        while cursor != "":
            page = patiently(partial(self._complete, cursor or ""))
            yield from self._chunks_of(page)
            cursor = page.cursor

    def _chunks_of(self, page: KeyPage) -> Iterator[ArchiveChunk]:
        """The chunks of one page; the last one says where the next begins."""
        left, size = page.keys, 0
        while left:
            asked, rest = left[: self._pace.keys], left[self._pace.keys :]
            self._pace.wait(len(asked))
            found = patiently(partial(read_keys, self._client, asked, r=self._r))
            left = found.left + rest
            size += sum(len(each.value) for _, each in found.values)
            keys = [_archived(key, value) for key, value in found.values]
            yield ArchiveChunk(keys, None if left else page.cursor)
        if not page.keys:
            yield ArchiveChunk([], page.cursor)
        elif size:
            self._limit = max(1, min(PAGE_KEYS, _PAGE_BYTES * len(page.keys) // size))

    def _complete(self, cursor: str) -> KeyPage:
        page = self._client.page(self._prefix, cursor=cursor, limit=self._limit, r=self._r)
        if not page.complete:
            raise QuorumUnreachable(
                "too few replicas answered with sound copies: keys may be missing"
            )
        return page


def _archived(key: bytes, found: Value) -> ArchivedKey:
    return ArchivedKey(key, found.value, found.expires_ms or 0, bytes.fromhex(found.version))


def _tell(given: Given, archive: ArchiveWriter, trailer: ArchiveTrailer) -> int:
    began_ms, ended_ms = archive.header.began_ms, trailer.ended_ms
    if "json" in given:
        print_json(
            {
                "archive": archive.path,
                "cluster": archive.header.cluster,
                "keys": archive.keys,
                "bytes": archive.size,
                "began_ms": began_ms,
                "ended_ms": ended_ms,
            }
        )
        return 0
    prefix = archive.header.prefix
    of = f" that begin with '{show_bytes(prefix)}'" if prefix else ""
    keys, size = show_count(archive.keys, "key"), show_size(archive.size)
    print(
        f"{archive.path}: {keys}{of}, {size}; each as it was at some time between"
        f" {show_utc(began_ms)} and {show_utc(ended_ms)}"
    )
    return 0


def _note(text: str) -> None:
    print(f"quorate: {text}", file=sys.stderr, flush=True)
