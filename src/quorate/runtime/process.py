# SPDX-License-Identifier: GPL-3.0-or-later
"""The process around a node: its loop, signals, limits, memory and log."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

STDERR: Final = 2
EXIT_FAILED: Final = 1
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


def handle_signals(stopping: asyncio.Event) -> None:
    """The first SIGINT or SIGTERM sets `stopping`, the second ends the process at once."""
    loop = asyncio.get_running_loop()

    def stop(signum: int) -> None:
        if stopping.is_set():
            # Not SystemExit: what unwinds then waits for the disk, perhaps the reason for a second.
            os._exit(128 + signum)
        stopping.set()
        log.info("stopping", signal=signal.Signals(signum).name)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)


def handle_faults(fail: Callable[[str], None]) -> None:
    """A fault in a task ends the node: a peer would never be dialled again. One in a callback has
    cost a client its connection, and that is enough."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "task" in context:
            fail(f"internal fault: {error or context['message']}")
        log.error("internal_fault", message=context["message"], exc_info=error)

    asyncio.get_running_loop().set_exception_handler(handle)


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


class _Lines:
    """Lines to standard error. One that cannot be written is lost: its disk may be full and its
    reader gone, and what a node does must not depend on what it has to tell of it."""

    def __init__(self) -> None:
        self.lost = 0
        """Lines that could not be written."""

    def msg(self, message: str) -> None:
        """Write a line; unbuffered, or what could not be written would count again at the end."""
        try:
            os.write(STDERR, f"{message}\n".encode(errors="backslashreplace"))
        except OSError:
            self.lost += 1

    debug = info = warning = error = critical = msg


LINES: Final = _Lines()


def configure_logs(*, form: str, level: str) -> None:
    """`form` is `json`, `text`, or `auto`: text on a terminal."""
    is_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: LINES,
        cache_logger_on_first_use=True,
    )
