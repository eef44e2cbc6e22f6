# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs a command on one key: a read, or a read-modify-write.

The answer may hold the value that was there. There must be room for it before anything is written,
as nobody could be told afterwards what was done. Which value it is only the edit finds out, so the
edit makes sure of the room, and refuses without it.
"""

from __future__ import annotations

from quorate.core.values.events import Edited, Result, Update, UpdateResult
from quorate.core.values.record import Record
from quorate.doors.access import Role
from quorate.doors.limits import no_room_for_reply
from quorate.doors.redis.plans import KeyCommand, checked_edit, size_of
from quorate.doors.redis.session import Collecting, PendingRead, Session, is_large


class PendingUpdate(Collecting):
    """A read-modify-write, answered with what its command makes of its result."""

    __slots__ = ("_command",)

    def __init__(self, session: Session, key: bytes, command: KeyCommand, size: int) -> None:
        super().__init__(session)
        self._command = command
        session.store.submit(Update(self, key, self.edit, size=size))

    def edit(self, record: Record | None) -> Edited | None:
        """The command's edit, within limits (`Edit`)."""
        command, session = self._command, self.session
        assert command.edit is not None
        if command.shows and not self.hold_only(size_of(record)):
            raise no_room_for_reply()
        return checked_edit(command.edit, record, bytes_max=session.store.config.value_bytes_max)

    def done(self, result: Result) -> None:
        """Take the result of the Update."""
        if type(result) is not UpdateResult:
            self.resolve_failed(result)
            return
        note_update(self.session, result)
        reply = self._command.reply(result.before, result.after)
        self.hold_only(0)
        self.keep(reply)


def note_update(session: Session, result: UpdateResult) -> None:
    """Note with how many copies a read-modify-write was acknowledged, for WAIT, and how large the
    value was that it read."""
    if result.after is not None:
        session.acks_min = min(session.acks_min, result.acks)
    if is_large(result.before):
        session.flow.saw_large = True


def begin(session: Session, key: bytes, command: KeyCommand, *, size: int) -> None:
    """Run a command on its one key; `size` is that of its arguments."""
    if command.edit is None:
        PendingRead(session, key, lambda record: command.reply(record, None))
    else:
        PendingUpdate(session, key, command, size)


def permit_reading(session: Session, keys: list[bytes], name: str) -> None:
    """CommandError if who may write must not see the values of `keys`, which the answer shows."""
    if keys and not session.principal.has_for_all(Role.READ):
        session.permit(Role.READ, keys, name=name)
