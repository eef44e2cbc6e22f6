# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of what is between the core and the operating system: the turn, the disk's queue, links.

Each is looked for in worlds with the one fault that shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from quorate.core.serving import Serving
from quorate.core.values.events import Batch, Note, StorageState
from quorate.core.values.messages import (
    Frame,
    Greeting,
    Mutated,
    Pong,
    ReadAnswer,
    ScannedRows,
)
from quorate.core.values.record import Record
from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError
from quorate.host.acceptor import Acceptor, Incoming
from quorate.host.driver import Driver, StopStage
from quorate.host.links import Link
from quorate.host.storing import BUSY_RETRY_MS, Storing, _WaitingBatch
from quorate.sim.draw import Options
from quorate.wire.frames import FrameParser
from tests.simulation.plants.plant import Plant

_synced: Final = Storing._synced
_try_later: Final = Storing._try_later
_take_in: Final = _WaitingBatch.take_in
_connection: Final = Acceptor.connection
_accept: Final = Acceptor.accept
_feed: Final = FrameParser.feed
_shown: Final = Serving._shown
_send: Final = Link.send
_frames_of: Final[WeakKeyDictionary[Acceptor, dict[int, FrameParser]]] = WeakKeyDictionary()
"""What was read of each process, over all its links."""
_left_in: Final[WeakKeyDictionary[Link, tuple[int, int]]] = WeakKeyDictionary()
"""The bytes behind the last frame of a link, and when some were last seen to leave."""
_ANSWERS: Final = (Mutated, Pong, ReadAnswer, ScannedRows)
STILL_MS: Final = 200
"""The thinnest line lets a small frame go meanwhile."""


def only(*faults: str) -> Options:
    """Worlds in which nothing else happens."""
    return Options(faults=frozenset(faults))


def _failed_sync_is_durable(self: Storing, error: BaseException | None) -> None:
    del error
    _synced(self, None)


def _never_stuck(self: Storing) -> None:
    self._watch = None


def _merge_without_hints(self: _WaitingBatch, batch: Batch, mark: int, size: int) -> int:
    return _take_in(self, Batch(batch.records, [], batch.meta), mark, size)


def _try_once(self: Storing, error: StorageError) -> None:
    del self, error


def _busy_is_a_failure(self: Storing, error: StorageBusy | DiskFull) -> None:
    if isinstance(error, DiskFull):
        _try_later(self, error)
    else:
        self._fail(f"the storage engine failed: {error}")


def _full_is_a_failure(self: Storing, error: StorageBusy | DiskFull) -> None:
    if isinstance(error, DiskFull):
        self._fail(f"the storage engine failed: {error}")
    else:
        _try_later(self, error)


def _wait_for_room_only(self: Storing, error: StorageBusy | DiskFull) -> None:
    """Try a full disk again, but without the sync in which an engine gets over it."""
    self._refusal = StorageState(error.code, str(error))
    self._tell()
    self._retrying = self._system.later(BUSY_RETRY_MS, self._retry)


def _unread_is_absent(self: Serving, row: bytes, failed: list[bytes]) -> Record | None:
    try:
        self._replica.shown(row)
    except Corrupt:
        pass
    except StorageError:
        return None
    return _shown(self, row, failed)


def _reopened_is_empty(self: Serving, row: bytes, failed: list[bytes]) -> Record | None:
    try:
        return self._replica.shown(row)
    except StorageError as error:
        if "opened again" not in str(error):
            failed.append(row)
    return None


def _log_as_if_nothing_could_fail(self: Driver, note: Note) -> None:
    self._system.log(note)


def _parser_of_the_link_before(self: Acceptor) -> Incoming:
    made = _connection(self)
    if self._connections:
        made.frames = next(reversed(self._connections)).frames
    return made


def _half_frame_of_the_process(
    self: Acceptor, link: Incoming, mine: Greeting, theirs: Greeting
) -> None:
    """Who dials again goes on where it was: but it sends no frame a second time."""
    link.frames = _frames_of.setdefault(self, {}).setdefault(theirs.process, link.frames)
    _accept(self, link, mine, theirs)


def _header_in_one_piece(self: FrameParser, data: bytes) -> list[Frame]:
    if not self._pending and len(data) < 12:
        return []
    return _feed(self, data)


def _send_without_bound(self: Link, frame: Frame) -> bool:
    connection = self._connection
    if not self.process or connection is None or connection.channel.is_closing():
        return False
    return self._write(connection.channel, frame)


def _answer_without_bound(self: Link, frame: Frame) -> bool:
    is_answer = all(isinstance(message, _ANSWERS) for message in frame.messages)
    return (_send_without_bound if is_answer else _send)(self, frame)


def _bound_while_some_leaves(self: Link, frame: Frame) -> bool:
    """Take a line that stands still for one that is cut, of which others will tell."""
    now_ms = self._links.system.now().mono_ms
    left, moved_ms = _left_in.get(self, (0, now_ms))
    if self.queued_bytes() < left or not left:
        moved_ms = now_ms
    is_sent = (_send if now_ms - moved_ms < STILL_MS else _send_without_bound)(self, frame)
    _left_in[self] = self.queued_bytes(), moved_ms
    return is_sent


def _dial_once(self: Link, connection: object, why_not_tried: str) -> None:
    del self, connection, why_not_tried


def _leave_at_once(self: Driver, done: Callable[[], None]) -> None:
    self._on_stopped = done
    self._stage = StopStage.REFUSING
    self._leave()


PLANTS: Final = (
    Plant(
        "a failed sync counts as done",
        Storing,
        "_synced",
        _failed_sync_is_durable,
        only("syncfail"),
    ),
    Plant("a disk that hangs is not told", Storing, "_look", _never_stuck, only("hang")),
    Plant(
        "batches that wait lose their hints when they are merged",
        _WaitingBatch,
        "take_in",
        _merge_without_hints,
        only("busy", "kill", "isolate"),
    ),
    Plant("a refused batch is never tried again", Storing, "_try_later", _try_once, only("full")),
    Plant("a busy engine ends the node", Storing, "_try_later", _busy_is_a_failure, only("busy")),
    Plant("a full disk ends the node", Storing, "_try_later", _full_is_a_failure, only("full")),
    Plant(
        "nothing is synced while the disk is full",
        Storing,
        "_try_later",
        _wait_for_room_only,
        only("reopen"),
    ),
    Plant(
        "a read for which files are missing finds nothing",
        Serving,
        "_shown",
        _unread_is_absent,
        only("noread"),
    ),
    Plant(
        "a database that is opened again has nothing",
        Serving,
        "_shown",
        _reopened_is_empty,
        only("reopen"),
    ),
    Plant(
        "a log line that cannot be written ends the step",
        Driver,
        "_log",
        _log_as_if_nothing_could_fail,
        only("log", "isolate"),
    ),
    Plant(
        "a new link goes on with the half frame of the old one",
        Acceptor,
        "connection",
        _parser_of_the_link_before,
        only("reset"),
    ),
    Plant(
        "a link goes on with the half frame that its process sent before",
        Acceptor,
        "accept",
        _half_frame_of_the_process,
        only("reset"),
    ),
    Plant(
        "a header is expected in one piece",
        FrameParser,
        "feed",
        _header_in_one_piece,
        only("pieces"),
    ),
    Plant("an outbox has no bound", Link, "send", _send_without_bound, only("deaf")),
    Plant("answers know no bound", Link, "send", _answer_without_bound, only("deaf")),
    Plant(
        "an outbox of which nothing leaves has no bound",
        Link,
        "send",
        _bound_while_some_leaves,
        only("deaf"),
    ),
    Plant("a dial that fails is the last", Link, "on_dial_failed", _dial_once, only("files")),
    Plant("an orderly stop does not wait", Driver, "stop", _leave_at_once, only("stop")),
)
