# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate restore: write the keys of an archive into a cluster, as any client writes them.

The archive is read twice: first all of it is checked, then it is written. Each key gets a new
version, so the restored value is newer than whatever was there, a deletion too; it expires when the
archived one does. `--existing=keep` reads before it writes, and writes a key that was not there
only if it is not there still. That is a read-modify-write, which needs a majority: where the
cluster's W or R is less, or `--W` says how many replicas, a client's write in between is written
over.

To do it again from the beginning is always right: what the first run wrote is kept, or replaced by
the same.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, Final

from quorate.cli.archive import ArchivedKey, ArchiveFault, ArchiveReader
from quorate.cli.arguments import Given, UsageError
from quorate.cli.cluster import show_utc
from quorate.cli.connect import whole_number
from quorate.cli.output import complain, print_json
from quorate.cli.patience import KeyRate, breathe, patient_client, patiently, read_keys
from quorate.cli.progress import ProgressMeter
from quorate.client.blocking import Client
from quorate.client.calls import BatchPut
from quorate.client.trial import PING
from quorate.core.values.record import has_expired
from quorate.errors import InvalidRequest, Outcome, PreconditionFailed, QuorateError
from quorate.notation import show_bytes, show_count, show_size, show_text

_CHOICES: Final = ("keep", "replace")
_BATCH_BYTES: Final = 1 << 20
"""Of keys and values: in base64 still less than the 2 MiB that every node takes."""
_FAULTS_SHOWN: Final = 10
_IF_ABSENT_UNKNOWN: Final = "unknown field `if_absent`"
_TOO_OLD: Final = (
    "the cluster is of a release that cannot write a key only where none is: restore into one of"
    " this release, or with --existing=replace"
)


def run_restore(given: Given) -> int:
    """Check an archive, then write what is in it; 3 if some of it could not be written."""
    existing = given.get("existing", "keep")
    if existing not in _CHOICES:
        raise UsageError(f"--existing: {existing!r}: write keep or replace")
    prefix = os.fsencode(given.get("prefix", ""))
    try:
        with _opened(given["archive"]) as file, patient_client(given) as client:
            checked = ArchiveReader(file, given["archive"])
            client.request(PING)  # Whoever mistyped a URL is told at once.
            total = _checked(checked, prefix)
            if "dry-run" in given and "json" not in given:
                print(f"{given['archive']}: {_origin(checked)}")
            restoring = _Restoring(client, given)
            return _restored(given, restoring, ArchiveReader(file, given["archive"]), total)
    except ArchiveFault as fault:
        return complain(str(fault), code="archive", is_json="json" in given)


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as fault:
        raise ArchiveFault(f"{path}: {fault.strerror}; name an archive of quorate backup") from None


def _checked(reader: ArchiveReader, prefix: bytes) -> int:
    """How many keys there are to restore, of an archive that is whole."""
    if not prefix.startswith(reader.header.prefix) and not reader.header.prefix.startswith(prefix):
        shown = show_bytes(reader.header.prefix)
        raise ArchiveFault(f"--prefix: the archive has only keys that begin with '{shown}'")
    return sum(_chosen(chunk.keys, prefix) for chunk in reader.chunks())


def _origin(reader: ArchiveReader) -> str:
    """Of what a whole archive is."""
    header, trailer = reader.header, reader.trailer
    assert trailer is not None
    of = f" that begin with '{show_bytes(header.prefix)}'" if header.prefix else ""
    began, ended = show_utc(header.began_ms), show_utc(trailer.ended_ms)
    keys = show_count(trailer.keys, "key")
    return (
        f"{keys}{of} of cluster {show_text(header.cluster)}, each as it was at some time between"
        f" {began} and {ended}"
    )


def _chosen(keys: list[ArchivedKey], prefix: bytes) -> int:
    return sum(each.key.startswith(prefix) for each in keys)


def _restored(given: Given, restoring: _Restoring, reader: ArchiveReader, total: int) -> int:
    prefix = os.fsencode(given.get("prefix", ""))
    try:
        with ProgressMeter("keys", total=total) as progress:
            for chunk in reader.chunks():
                restoring.take([each for each in chunk.keys if each.key.startswith(prefix)])
                progress.advance(count=_chosen(chunk.keys, prefix))
    except (QuorateError, KeyboardInterrupt):
        print(
            f"quorate: {restoring.told()} so far, of {show_count(total, 'key')}; the same command"
            " begins again, which does no harm",
            file=sys.stderr,
        )
        raise
    if "json" in given:
        print_json({"archive": given["archive"], "keys": total, **restoring.figures})
    else:
        print(f"{given['archive']}: {restoring.told()}, of {show_count(total, 'key')}")
    return 3 if restoring.figures["failed"] else 0


class _Restoring:
    """Writes keys, and counts what became of them."""

    def __init__(self, client: Client, given: Given) -> None:
        self._client = client
        self._keeps = given.get("existing", "keep") == "keep"
        self._is_dry = "dry-run" in given
        self._w = whole_number(given, "W", low=1)
        self._is_guarded = self._keeps and self._w is None
        """Whether a key that was not there is written only if it is not there still."""
        self._pace = KeyRate(given)
        self.figures = dict.fromkeys(("written", "bytes", "kept", "expired", "failed"), 0)

    def told(self) -> str:
        """The figures in words."""
        figures = self.figures
        verb = "would write" if self._is_dry else "wrote"
        words = [f"{verb} {show_count(figures['written'], 'key')} ({show_size(figures['bytes'])})"]
        if figures["kept"]:
            words.append(f"kept {figures['kept']:,} that the cluster has")
        if figures["expired"]:
            words.append(f"left out {figures['expired']:,} that have expired")
        if figures["failed"]:
            words.append(f"failed with {figures['failed']:,}")
        return ", ".join(words)

    def take(self, keys: list[ArchivedKey]) -> None:
        """Write some keys, but for what has expired or is to be kept."""
        for portion in self._portions(keys):
            self._pace.wait(len(portion))
            self._take(portion)

    def _portions(self, keys: list[ArchivedKey]) -> Iterator[list[ArchivedKey]]:
        """The keys in portions that fit into one request."""
        portion: list[ArchivedKey] = []
        size = 0
        for each in keys:
            more = len(each.key) + len(each.value) + 64
            if portion and (len(portion) >= self._pace.keys or size + more > _BATCH_BYTES):
                yield portion
                portion, size = [], 0
            portion.append(each)
            size += more
        if portion:
            yield portion

    def _take(self, portion: list[ArchivedKey]) -> None:
        wall_ms = time.time_ns() // 10**6
        live = [each for each in portion if not has_expired(each.expires_ms, wall_ms=wall_ms)]
        self.figures["expired"] += len(portion) - len(live)
        there = self._there([each.key for each in live]) if self._keeps else set()
        self.figures["kept"] += len(there)
        left = [each for each in live if each.key not in there]
        if self._is_dry:
            self._count(left)
            return
        batches = [left] if left else []
        while batches:
            batches += patiently(partial(self._put, batches.pop()))

    def _there(self, keys: list[bytes]) -> set[bytes]:
        """Those of the keys that the cluster has."""
        there: set[bytes] = set()
        while keys:
            found = patiently(partial(read_keys, self._client, keys, r=None))
            there.update(key for key, _ in found.values)
            keys = found.left
        return there

    def _put(self, batch: list[ArchivedKey]) -> list[list[ArchivedKey]]:
        """Write what can be written, and count what is over; what is left, in batches. QuorateError
        if that is all, and then nothing was counted."""
        is_guarded = self._is_guarded
        puts = [
            BatchPut(each.key, each.value, expires_ms=each.expires_ms or None, if_absent=is_guarded)
            for each in batch
        ]
        try:
            results = self._client.batch(puts, w=self._w)
        except InvalidRequest as error:
            if _IF_ABSENT_UNKNOWN in error.detail:
                raise InvalidRequest(_TOO_OLD, outcome=Outcome.NOT_APPLIED) from None
            if len(batch) > 1:
                # One of them is refused by this cluster, as too large, and none was looked at.
                half = len(batch) // 2
                return [batch[half:], batch[:half]]
            self._fail(batch[0], error)
            return []
        left: list[ArchivedKey] = []
        faults: list[QuorateError] = []
        for each, result in zip(batch, results, strict=True):
            if not isinstance(result, QuorateError):
                self._count([each])
            elif not self._is_over(each, result, is_guarded=is_guarded):
                left.append(each)
                faults.append(result)
        if len(left) == len(batch) and self._is_guarded == is_guarded:
            raise faults[0]
        if left and self._is_guarded == is_guarded:
            breathe()
        return [left] if left else []

    def _is_over(self, key: ArchivedKey, error: QuorateError, *, is_guarded: bool) -> bool:
        """Count a key that was not written; False if it is to be tried again. `is_guarded`: it was
        to be written only if it was not there."""
        if isinstance(error, PreconditionFailed):
            # Also where it was tried before, and what became of that is not known.
            self.figures["kept"] += 1
            return True
        if is_guarded and isinstance(error, InvalidRequest) and "needed" in error.facts:
            self._unguard(error)
            return False
        if error.retryable:
            return False
        self._fail(key, error)
        return True

    def _unguard(self, error: QuorateError) -> None:
        """From now on write as any client does: the cluster refuses what depends on what is
        there."""
        if self._is_guarded:
            self._is_guarded = False
            print(
                f"quorate: {show_text(error.detail)}: a client's write of a key between the look"
                " whether it is there and the write here is written over",
                file=sys.stderr,
                flush=True,
            )

    def _count(self, written: list[ArchivedKey]) -> None:
        self.figures["written"] += len(written)
        self.figures["bytes"] += sum(len(each.key) + len(each.value) for each in written)

    def _fail(self, key: ArchivedKey, error: QuorateError) -> None:
        self.figures["failed"] += 1
        if self.figures["failed"] <= _FAULTS_SHOWN:
            shown = show_text(error.detail)
            print(f"quorate: key '{show_bytes(key.key)}': {shown}", file=sys.stderr, flush=True)
