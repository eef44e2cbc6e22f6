# SPDX-License-Identifier: GPL-3.0-or-later
"""MULTI, EXEC, DISCARD, WATCH, UNWATCH.

Each key is a register of its own, so a transaction is exact where it is of one key: all its
commands are played on the record as one read-modify-write, which compares the version that was
watched. On several keys it runs if it only reads, or if it writes every key whatever was there
(MSET, then EXPIRE of what was set): each key by itself, none waiting for another. Anything else on
several keys would only look like a transaction, and EXEC refuses it.

A watched version is compared where the key is read or written. A transaction that only reads
compares all of them, and they count from EXEC on: versions only rise, so one that is still the same
when it is read was the same at EXEC. One that writes may only watch the key that it writes.

A WATCH that could not read a key leaves it watched with a version that none has: EXEC then runs
nothing, whether the client saw the error or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Final

from quorate.core.values.events import (
    Edit,
    Edited,
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Update,
    UpdateResult,
)
from quorate.core.values.record import Record
from quorate.doors.access import Role
from quorate.doors.errors import answer_for
from quorate.doors.limits import no_room_for_reply
from quorate.doors.redis.command import Access, Command, reads_keys
from quorate.doors.redis.gather import Gather, Part
from quorate.doors.redis.kept import Block, WatchedKeys
from quorate.doors.redis.one_key import note_update, permit_reading
from quorate.doors.redis.plans import (
    CommandPlan,
    Depends,
    KeyCommand,
    Played,
    answers,
    checked_work,
    play,
    size_of,
    version_of,
)
from quorate.doors.redis.session import (
    Collecting,
    CommandError,
    Session,
    told,
    visible,
)
from quorate.errors import InvalidRequest, Overloaded, QuorateError
from quorate.wire import resp

QUEUED_MAX: Final = 10_000
"""Commands in one transaction, one of several keys once for each: EXEC runs them in one turn."""
WATCHED_MAX: Final = 256
WATCHED_BYTES_MAX: Final = 48 << 10
"""Watched keys of a connection, and their bytes: with what each takes beside, they are never more
than FREE_BYTES."""
ABORTED: Final = "EXECABORT Transaction discarded because of previous errors."
SHOWN_BYTES_MAX: Final = 64 << 20
"""Values in the replies of one transaction together."""
NOT_QUEUED: Final = frozenset({"exec", "discard", "multi", "watch", "reset", "quit"})
UNREAD: Final = b"?"
"""In place of the version of a watched key that could not be read; no record has it."""
_REPLY_BYTES: Final = 32
"""What a reply takes beside the value that it shows."""
_LINE_BYTES: Final = 400
_ARGUMENT_BYTES: Final = 64
"""What a queued command takes, and each of its arguments, or a watched key, beside its bytes."""
_FULL: Final = "BUSY too many request bytes are queued (outcome=not_applied)"
_LOST: Final = {2: b"*-1\r\n", 3: b"_\r\n"}
"""EXEC's reply, by protocol version, where a watched key has changed."""
_SEVERAL_KEYS: Final = (
    "CROSSKEY Transaction discarded: on several keys it may only read, or only write keys whatever"
    " was there, as each key is written by itself. Without MULTI each command is exact by itself"
    " (outcome=not_applied)"
)
_OTHER_WATCHED: Final = (
    "CROSSKEY Transaction discarded: if it writes, it may watch and write one key alone, as each"
    " key is written by itself (outcome=not_applied)"
)


# --- until EXEC ----------------------------------------------------------------------------------


def _multi(session: Session, _args: list[bytes]) -> None:
    if session.block is not None:
        # Not raised: as in Redis, the transaction goes on.
        session.refuse("ERR MULTI calls can not be nested")
        return
    session.block = Block(session.door.bodies, session.door.kept)
    session.answer(resp.OK)


def queue(session: Session, command: Command, args: list[bytes]) -> None:
    """Keep a command, which its client may run, for EXEC. CommandError if it cannot be kept."""
    block = session.block
    assert block is not None
    if command.plan is None:
        raise CommandError(
            f"ERR Command not allowed inside a transaction: '{command.name}' (outcome=not_applied)"
        )
    keys, shown = command.keys.of(args), command.shown(args) if command.shown is not None else []
    permit_reading(session, shown, command.name)
    size = sum(map(len, args)) + _ARGUMENT_BYTES * len(args) + _LINE_BYTES
    count = len(keys) or 1
    if block.count + count > QUEUED_MAX:
        raise CommandError(
            f"ERR a transaction may have {QUEUED_MAX} commands, of which one of several keys"
            " counts once for each (outcome=not_applied)"
        )
    if not block.charge(size):
        raise CommandError(_FULL)
    block.count += count
    block.compared += sum(map(len, keys)) + sum(map(len, shown))
    block.lines.append(partial(_plan, session, command, args))
    session.answer(b"+QUEUED\r\n")


def _plan(session: Session, command: Command, args: list[bytes]) -> CommandPlan:
    """At EXEC, when the client may have lost a right since. CommandError."""
    if not session.principal.has_for_all(command.role):
        session.permit(command.role, command.keys.of(args), name=command.name)
    if command.shown is not None:
        permit_reading(session, command.shown(args), command.name)
    assert command.plan is not None
    return command.plan(session, args)


def _discard(session: Session, _args: list[bytes]) -> None:
    if session.block is None:
        raise CommandError("ERR DISCARD without MULTI")
    session.leave_block()
    session.answer(resp.OK)


def _watch(session: Session, args: list[bytes]) -> None:
    watch = session.watch or WatchedKeys(session.door.bodies, session.door.kept)
    watched = watch.versions
    keys = [key for key in dict.fromkeys(args[1:]) if key not in watched]
    if session.block is not None:
        session.refuse("ERR WATCH inside MULTI is not allowed")
    elif (
        len(watched) + len(keys) > WATCHED_MAX
        or sum(map(len, chain(watched, keys))) > WATCHED_BYTES_MAX
    ):
        raise CommandError(
            f"ERR at most {WATCHED_MAX} keys of {WATCHED_BYTES_MAX} bytes together may be watched"
        )
    else:
        is_kept = watch.charge(sum(map(len, keys)) + _ARGUMENT_BYTES * len(keys))
        assert is_kept, "so little is never refused"
        session.watch = watch
        watched.update(dict.fromkeys(keys, UNREAD))
        _Watch(session, keys, watched)


class _Watch(Gather):
    """Finds the versions of keys that were not watched before."""

    __slots__ = ("_watched",)

    def __init__(self, session: Session, keys: list[bytes], watched: dict[bytes, bytes]) -> None:
        self._watched = watched
        super().__init__(session, keys)

    def ask(self, part: Part) -> None:
        self.session.store.submit(Get(part, part.key))

    def take(self, part: Part, result: Result) -> bool:
        assert isinstance(result, GetResult)
        self._watched[part.key] = version_of(visible(result, self.session))
        return True

    def conclude(self) -> bytes:
        return resp.OK


def _unwatch(session: Session, _args: list[bytes]) -> None:
    session.unwatch()
    session.answer(resp.OK)


# --- EXEC ----------------------------------------------------------------------------------------


def _exec(session: Session, _args: list[bytes]) -> None:
    block, watch = session.block, session.watch
    if block is None:
        raise CommandError("ERR EXEC without MULTI")
    lines, size = block.lines, block.bytes
    watched = watch.versions if watch is not None else {}
    session.leave_block()
    if block.fault:
        raise CommandError(block.fault)
    if watch is not None and watch.is_lost:
        session.answer(_LOST[session.protocol])
        return
    _check_patterns(session, block.compared)
    # Until it is answered the commands are kept by what runs them.
    if not session.flow.charge(session.flow.charged_bytes + size):
        raise CommandError(_FULL)
    script = _scripted(session, lines)
    if script.reads_only:
        _ReadsOnly(session, script, watched)
    elif not watched and script.writes_whatever_was_there:
        _WritesOnly(session, script)
    elif len(script.by_key) > 1:
        raise CommandError(_SEVERAL_KEYS)
    elif watched.keys() - script.by_key.keys():
        raise CommandError(_OTHER_WATCHED)
    else:
        _OneKey(session, script, watched, size)


def _check_patterns(session: Session, key_bytes: int) -> None:
    """CommandError where comparing the keys of all commands would hold up the turn."""
    patterns = session.principal.patterns
    try:
        if patterns is not None:
            patterns.check(key_bytes)
    except Overloaded as error:
        text = f"{answer_for(error).prefix} {error.detail} (outcome=not_applied)"
        raise CommandError(text) from None


def _scripted(session: Session, lines: list[Callable[[], CommandPlan]]) -> _Script:
    try:
        return _Script(session, map(_planned, lines))
    except InvalidRequest as error:
        raise CommandError(f"ERR {error.detail} (outcome=not_applied)") from None


def _planned(line: Callable[[], CommandPlan]) -> CommandPlan:
    try:
        return line()
    except CommandError as refusal:
        return answers(resp.error(str(refusal)))
    except QuorateError as error:
        return answers(told(error, error.outcome))


def _checked_room(room: int) -> int:
    """`room`, if the replies of a transaction may take so much. InvalidRequest."""
    if room > SHOWN_BYTES_MAX:
        raise InvalidRequest(f"the values are over {SHOWN_BYTES_MAX} bytes together")
    return room


class _Script:
    """The commands of a transaction, by key."""

    __slots__ = ("_bytes_max", "_plans", "_wall_ms", "by_key")

    def __init__(self, session: Session, plans: Iterable[CommandPlan]) -> None:
        """InvalidRequest if the commands are too much work, whatever is there."""
        self._plans: list[CommandPlan] = []
        self._wall_ms = session.store.wall_ms()
        self._bytes_max = session.store.config.value_bytes_max
        self.by_key: dict[bytes, list[KeyCommand]] = {}
        work = 0
        for plan in plans:
            self._plans.append(plan)
            for key, command in plan.parts:
                self.by_key.setdefault(key, []).append(command)
                work = checked_work(work + command.work)

    @property
    def reads_only(self) -> bool:
        """Whether no command writes."""
        return all(each.edit is None for each in chain.from_iterable(self.by_key.values()))

    @property
    def writes_whatever_was_there(self) -> bool:
        """Whether what each key will have does not depend on what it has."""
        return all(commands[0].depends is not Depends.ALL for commands in self.by_key.values())

    def settle(self, key: bytes, record: Record | None) -> tuple[Edited | None, int]:
        """What the commands make of the key together, None to leave it, and what room their
        replies take. InvalidRequest."""
        edited: Edited | None = None
        room = 0
        for each in self._play(key, record):
            room += _REPLY_BYTES + (size_of(each.before) if each.command.shows else 0)
            _checked_room(room)
            if each.after is not None:
                edited = Edited(each.after.value, each.after.expires_ms)
        return edited, room

    def edit(self, key: bytes, record: Record | None) -> tuple[Edited | None, int]:
        """`settle`, but that nothing is not deleted once more."""
        edited, room = self.settle(key, record)
        is_nothing = record is None and edited is not None and edited.value is None
        return (None if is_nothing else edited), room

    def reply(self, records: dict[bytes, Record | None]) -> bytes:
        """The reply of EXEC, from what was there; of a key that is not named, nothing was.
        InvalidRequest."""
        _checked_room(sum([self.settle(key, records.get(key))[1] for key in self.by_key]))
        replies = {
            key: map(self._reply_of, self._play(key, records.get(key))) for key in self.by_key
        }
        return resp.array(
            [plan.join([next(replies[key]) for key, _ in plan.parts]) for plan in self._plans]
        )

    def _play(self, key: bytes, record: Record | None) -> Iterator[Played]:
        commands = self.by_key[key]
        return play(commands, record, wall_ms=self._wall_ms, bytes_max=self._bytes_max)

    def _reply_of(self, played: Played) -> bytes:
        if played.refusal is not None:
            return told(played.refusal, played.refusal.outcome)
        return played.command.reply(played.before, played.after)


class _ReadsOnly(Gather):
    """A transaction that writes nothing."""

    __slots__ = ("_is_lost", "_records", "_script", "_watched")

    def __init__(self, session: Session, script: _Script, watched: dict[bytes, bytes]) -> None:
        self._script = script
        self._watched = watched
        self._records: dict[bytes, Record | None] = {}
        self._is_lost = False
        super().__init__(session, list(dict.fromkeys([*script.by_key, *watched])))

    def ask(self, part: Part) -> None:
        self.session.store.submit(Get(part, part.key))

    def take(self, part: Part, result: Result) -> bool:
        assert isinstance(result, GetResult)
        record = self._records[part.key] = visible(result, self.session)
        self._is_lost |= self._watched.get(part.key, version_of(record)) != version_of(record)
        if not self.hold(size_of(record)):
            self.fail(no_room_for_reply())
        return True

    def conclude(self) -> bytes:
        if self._is_lost:
            return _LOST[self.session.protocol]
        try:
            return self._script.reply(self._records)
        except InvalidRequest as error:
            return self.failed(error)

    def fail(self, error: QuorateError) -> None:
        self._records.clear()
        super().fail(error)


class _WritesOnly(Gather):
    """A transaction that writes each of its keys whatever was there: a plain write for each, or,
    where DEL tells whether there was something, a read-modify-write."""

    __slots__ = ("_plain", "_records", "_script", "_sizes")

    def __init__(self, session: Session, script: _Script) -> None:
        self._script = script
        self._records: dict[bytes, Record | None] = {}
        self._plain: dict[bytes, Edited] = {}
        self._sizes: dict[bytes, int] = {}
        """Of the values that are written."""
        try:
            shown = self._settle()
        except InvalidRequest as error:
            raise CommandError(f"ERR {error.detail} (outcome=not_applied)") from None
        super().__init__(session, list(script.by_key), room=shown)

    def _settle(self) -> int:
        """Find what to write plainly. Returns what room the reply takes. InvalidRequest."""
        room = 0
        for key, commands in self._script.by_key.items():
            edited, shown = self._script.settle(key, None)
            room = _checked_room(room + shown)
            self._sizes[key] = len(edited.value or b"") if edited is not None else 0
            if commands[0].depends is Depends.NOTHING:
                assert edited is not None, "what depends on nothing refuses nothing"
                self._plain[key] = edited
        return room

    def ask(self, part: Part) -> None:
        key, store = part.key, self.session.store
        plain = self._plain.get(key)
        if plain is not None:
            store.submit(Put(part, key, plain.value, plain.expires_ms))
        else:
            store.submit(Update(part, key, self._edit_of(key), size=self._sizes[key]))

    def _edit_of(self, key: bytes) -> Edit:
        return lambda record: self._script.edit(key, record)[0]

    def take(self, part: Part, result: Result) -> bool:
        if isinstance(result, UpdateResult):
            self._records[part.key] = result.before
            if result.after is None:
                return True
        else:
            assert isinstance(result, PutResult)
        self.note_write(result)
        return True

    def conclude(self) -> bytes:
        return self._script.reply(self._records)


class _OneKey(Collecting):
    """A transaction on one key: one read-modify-write."""

    __slots__ = ("_key", "_script", "_watched")

    def __init__(
        self, session: Session, script: _Script, watched: dict[bytes, bytes], size: int
    ) -> None:
        super().__init__(session)
        (self._key,) = script.by_key
        self._script = script
        self._watched = watched.get(self._key)
        session.store.submit(Update(self, self._key, self.edit, size=size))

    def edit(self, record: Record | None) -> Edited | None:
        """All commands' edits, one after the other (`Edit`)."""
        if self._is_lost(record):
            return None
        edited, room = self._script.edit(self._key, record)
        if not self.hold_only(room):
            raise no_room_for_reply()
        return edited

    def _is_lost(self, record: Record | None) -> bool:
        return self._watched is not None and self._watched != version_of(record)

    def done(self, result: Result) -> None:
        """Take the result of the Update."""
        if type(result) is not UpdateResult:
            self.resolve_failed(result)
            return
        note_update(self.session, result)
        if self._is_lost(result.before):
            reply = _LOST[self.session.protocol]
        else:
            reply = self._script.reply({self._key: result.before})
        self.hold_only(0)
        self.keep(reply)


_transaction = partial(Command, group="transactions", role=Role.USER)
_alone = partial(_transaction, access=Access.ALONE)

COMMANDS: Final = (
    _transaction("multi", 1, _multi, "Begin a transaction", "1.2.0"),
    _alone("exec", 1, _exec, "Run a transaction", "1.2.0"),
    _alone("discard", 1, _discard, "Leave a transaction", "2.0.0"),
    reads_keys("watch", -2, _watch, "Watch keys until EXEC", "2.2.0", group="transactions"),
    _alone("unwatch", 1, _unwatch, "Watch nothing any more", "2.2.0"),
)
