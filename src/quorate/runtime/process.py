# SPDX-License-Identifier: GPL-3.0-or-later
"""The process around a node: its loop, signals, limits, memory and log."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import structlog

from quorate.runtime.lines import LineWriter

EXIT_FAILED: Final = 1
_QUIET_S: Final = 1.0
_KINDS_MAX: Final = 1000
_OUT_OF_RESOURCE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

log = structlog.get_logger()


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop of that name: `uvloop`, `asyncio`, or `auto`, which is uvloop where it
    exists. ImportError if it does not and was asked for."""
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def handle_signals(stopping: asyncio.Event, read_again: Sequence[Callable[[], None]] = ()) -> None:
    """The first SIGINT or SIGTERM sets `stopping`, the second ends the process at once. SIGHUP has
    files read again, by the calls of `read_again`. With none it is not heeded, as with Redis: it
    comes from a terminal that closes, or who rotates logs."""
    loop = asyncio.get_running_loop()

    def stop(signum: int) -> None:
        if stopping.is_set():
            # Not SystemExit: what unwinds then waits for the disk, perhaps the reason for a second.
            os._exit(128 + signum)
        stopping.set()
        log.info("stopping", signal=signal.Signals(signum).name)

    def hang_up() -> None:
        if not read_again:
            log.info("signal_ignored", signal="SIGHUP")
        for each in read_again:
            each()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)
    loop.add_signal_handler(signal.SIGHUP, hang_up)


def handle_faults(fail: Callable[[str], None]) -> None:
    """A fault in a task ends the node: a peer would never be dialled again. One in a callback has
    cost a client its connection, and that is enough."""
    told = _Repeated()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message, error = context["message"], context.get("exception")
        if "task" in context:
            fail(f"internal fault: {error or message}")
        times = told.times(_place(error) or message, now=loop.time())
        if not times:
            return
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCE:
            # asyncio's loop, of a connection that it cannot accept: no fault of ours.
            log.error("out_of_resource", message=message, reason=str(error), times=times)
        else:
            log.error("internal_fault", message=message, times=times, exc_info=error)

    asyncio.get_running_loop().set_exception_handler(handle)


class _Repeated:
    """Has each thing told once in `quiet_s` seconds, with the times it happened."""

    def __init__(self, quiet_s: float = _QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._quiet: dict[object, tuple[float, int]] = {}
        """Until when each is not told, and how often it was not."""

    def times(self, what: object, *, now: float) -> int:
        """How often `what` happened since it was last told; 0 if it is not to be told now.

        At most _KINDS_MAX things are remembered. All beyond that share one quiet time and one
        count, which is added to the next line that is told after it, whatever that is about."""
        if what not in self._quiet and len(self._quiet) >= _KINDS_MAX:
            self._make_room(now)
            what = what if len(self._quiet) < _KINDS_MAX else None
        until, untold = self._quiet.get(what, (now, 0))
        if now < until:
            self._quiet[what] = until, untold + 1
            return 0
        self._quiet[what] = now + self._quiet_s, 0
        return untold + 1 + self._take_too_many(now)

    def _take_too_many(self, now: float) -> int:
        """Take the shared count, if its quiet time is over; else 0."""
        until, untold = self._quiet.get(None, (now, 0))
        if now < until:
            return 0
        self._quiet.pop(None, None)
        return untold

    def _make_room(self, now: float) -> None:
        """Forget things whose quiet time is over and of which nothing is untold. If that is not
        enough, forget the others whose time is over too, and add their counts to the shared one."""
        over = {
            each: untold
            for each, (until, untold) in self._quiet.items()
            if until <= now and each is not None
        }
        for each in [each for each, untold in over.items() if not untold]:
            del self._quiet[each], over[each]
        if len(self._quiet) >= _KINDS_MAX:
            untold = sum([self._quiet.pop(each)[1] for each in over])
            until, before = self._quiet.get(None, (now, 0))
            self._quiet[None] = until, before + untold


def _place(error: BaseException | None) -> object:
    """Where an exception was raised: its text, and the loop's message, may differ each time."""
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def files_max() -> int | None:
    """How many files may be open, after asking for as many as are allowed; None without a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return None if hard == resource.RLIM_INFINITY else hard


async def close_in_time(close: Callable[[], None], *, seconds: float) -> bool:
    """Call what closes the engine; False if that failed. Ends the process if it takes too long."""
    closing = asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(max_workers=1), close)
    await asyncio.wait({closing}, timeout=seconds)
    if not closing.done():
        log.critical("stopped", reason=f"the disk did not confirm a sync for {seconds:g} s")
        # Any other way out of Python waits for the threads that wait for the disk. Nothing is lost:
        # what was acknowledged is durable.
        LINES.flush(seconds=FLUSH_S)
        os._exit(EXIT_FAILED)
    error = closing.exception()
    if error is not None:
        log.critical("close_failed", reason=str(error))
    return error is None


def settle_memory() -> None:
    """Keep what start-up built out of every later collection, and collect rarely: requests make
    no cycles, so collections find next to nothing and show only as pauses."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


LINES: Final = LineWriter()
"""The log of this process."""
UNRAISED_QUIET_S: Final = 60.0
UNRAISED_CHARACTERS_MAX: Final = 300
_QUOTED: Final = re.compile("b?['\"]|<")
FLUSH_S: Final = 2.0
"""How long a process that ends waits for who reads its log."""


class _Foreign(logging.Handler):
    """What libraries log, as lines of ours: their own way to standard error waits for a reader."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        level = min(max(record.levelno // 10 * 10, 10), 50)
        log.log(level, "library", logger=record.name, message=record.getMessage(), exc_info=error)


class _Unraised:
    """What is raised where no code of ours can catch it, once in UNRAISED_QUIET_S at most of each
    kind.

    Such as what `ssl` makes of a server's name that is not ASCII: whoever reaches the port can say
    one with each connection, and Python would write a traceback to standard error for each.
    """

    def __init__(self) -> None:
        self._told = _Repeated(UNRAISED_QUIET_S)

    def __call__(self, raised: sys.UnraisableHookArgs) -> None:
        said = raised.err_msg or "raised and ignored"
        # From Python 3.14 on the name that a stranger said is quoted in it.
        kind = raised.exc_type, _QUOTED.split(said, maxsplit=1)[0]
        times = self._told.times(kind, now=time.monotonic())
        if times:
            message = f"{said}: {raised.exc_value!r}"[:UNRAISED_CHARACTERS_MAX]
            log.warning("library", logger="python", message=message, held_back=times - 1)


def _without_lower(
    level: int, _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if _LEVELS[event["level"]] < level and not event.get("audit"):
        raise structlog.DropEvent
    return event


def configure_logs(*, form: str, level: str) -> None:
    """`form` is `json`, `text`, or `auto`: text on a terminal. Text has colours there alone, and
    not with NO_COLOR (no-color.org): a file or a pipe would keep their escapes. Lines below `level`
    are not written, but for those with `audit=true`."""
    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor
    if form == "json" or (form == "auto" and not is_terminal):
        renderer = structlog.processors.JSONRenderer()
    else:
        colors = is_terminal and not os.environ.get("NO_COLOR")
        renderer = structlog.dev.ConsoleRenderer(colors=colors)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            partial(_without_lower, _LEVELS[level]),
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(min(_LEVELS[level], _LEVELS["info"])),
        logger_factory=lambda *_: LINES,
        cache_logger_on_first_use=True,
    )
    LINES.tell_lost = lambda lines: log.warning("log_lines_lost", lines=lines)
    logging.lastResort = _Foreign(logging.WARNING)
    sys.unraisablehook = _Unraised()
