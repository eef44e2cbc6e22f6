# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds a node in its process; signals and memory as a whole are in `tests/cluster`."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import structlog
import uvloop
from structlog.testing import capture_logs

from quorate.runtime import process
from quorate.runtime.lines import LineWriter
from quorate.runtime.system import AsyncioSystem
from tests.unit.conftest import Run
from tests.unit.runtime.fakes import FakeConnection, FakeDisk, until

HERE = "http://127.0.0.1:8000"


class Broken(FakeConnection):
    """Raises when it is told that nobody is there."""

    def dial_failed(self, why_not_tried: str) -> None:
        del why_not_tried
        raise RuntimeError("invariant")


# --- the loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [("asyncio", asyncio.SelectorEventLoop), ("uvloop", uvloop.Loop), ("auto", uvloop.Loop)],
)
def test_a_loop_is_made_by_its_name(name: str, kind: type[asyncio.AbstractEventLoop]) -> None:
    loop = process.loop_factory(name)()
    assert isinstance(loop, kind)
    loop.close()


def test_where_there_is_no_uvloop_only_who_asks_for_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert process.loop_factory("auto") is asyncio.new_event_loop
    with pytest.raises(ImportError):
        process.loop_factory("uvloop")


# --- faults and signals ------------------------------------------------------------------------


def test_a_fault_in_a_task_ends_the_node_and_one_in_a_call_back_does_not(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        reasons: list[str] = []
        process.handle_faults(reasons.append)

        def fail() -> None:
            raise RuntimeError("of a client")

        with capture_logs() as lines:
            loop.call_soon(fail)
            await until(lambda: lines)
            assert reasons == []
            # Who is not told of a dial that failed may never dial again.
            system = AsyncioSystem(own_url=HERE, sync=FakeDisk().sync, on_end=reasons.append)
            system.dial("no URL at all", Broken())
            await until(lambda: reasons)
            system.close()
        assert reasons == ["internal fault: invariant"]
        assert [line["event"] for line in lines] == ["internal_fault", "internal_fault"]
        assert [str(line["exc_info"]) for line in lines] == ["of a client", "invariant"]
        loop.set_exception_handler(before)

    run(main())


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "out_of_resource"),
        (RuntimeError("of a client"), "internal_fault"),
    ],
)
def test_a_fault_that_comes_again_and_again_is_told_once_a_second_with_its_count(
    error: Exception, event: str, run: Run
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        process.handle_faults(lambda _: None)
        handle: Callable[..., object] | None = loop.get_exception_handler()
        assert handle is not None

        def fail(times: int, *, at: float) -> None:
            for number in range(times):
                try:
                    raise error
                except Exception as raised:
                    context = {"message": f"callback {number}", "exception": raised}
                    handle(SimpleNamespace(time=lambda: at), context)

        with capture_logs() as lines:
            fail(5_000, at=7.0)
            fail(1, at=8.0)
        assert [(line["event"], line["times"]) for line in lines] == [(event, 1), (event, 5_000)]
        loop.set_exception_handler(before)

    run(main())


def test_of_ever_new_faults_so_many_are_remembered_and_no_more() -> None:
    """P7: a client may know how to cause one that is new each time."""
    told = process._Repeated()
    count = process._KINDS_MAX
    assert [told.times(number, now=0.0) for number in range(count)] == [1] * count
    assert [told.times(number, now=0.0) for number in (0, count - 1)] == [0, 0]
    more = [told.times(number, now=0.0) for number in range(count, count + 5)]
    assert more == [1, 0, 0, 0, 0], "those that are too many are one"
    assert len(told._quiet) == count + 1
    assert told.times(0, now=0.0) == 0, "none was forgotten before its time"
    assert told.times(count, now=1.0) == 1 + 4, "there is room again"
    assert set(told._quiet) == {count, 0, count - 1}, "and of these not all was told"


def test_what_was_not_told_is_in_a_later_line_though_other_kinds_need_the_room() -> None:
    told, count = process._Repeated(), process._KINDS_MAX
    assert [told.times("often", now=0.0) for _ in range(51)] == [1] + [0] * 50
    assert [told.times(number, now=0.0) for number in range(count - 1)] == [1] * (count - 1)
    assert told.times("rare", now=1.0) == 1
    assert told.times("often", now=1.0) == 51


def test_where_all_kinds_have_something_untold_it_is_in_the_line_that_needs_the_room() -> None:
    told, count = process._Repeated(), process._KINDS_MAX
    for number in range(count):
        assert [told.times(number, now=0.0) for _ in range(2)] == [1, 0]
    assert told.times("more", now=1.0) == count + 1
    assert told.times("last", now=1.0) == 1
    assert set(told._quiet) == {"more", "last"}


def test_those_that_were_too_many_are_in_the_next_line_once_they_may_be_told() -> None:
    """Though never again there are too many."""
    told, count = process._Repeated(), process._KINDS_MAX
    for number in range(count):
        told.times(number, now=0.0)
    assert [told.times(number, now=0.5) for number in range(count, count + 4)] == [1, 0, 0, 0]
    assert told.times("early", now=1.0) == 1
    assert told.times("next", now=1.5) == 1 + 3
    assert told.times("last", now=1.5) == 1


def test_the_first_signal_asks_for_the_end_and_the_second_is_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)

    async def main() -> None:
        stopping = asyncio.Event()
        process.handle_signals(stopping)
        with capture_logs() as lines:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: lines)
            assert lines.pop()["event"] == "signal_ignored"
            assert not stopping.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await until(stopping.is_set)
            assert exits == []
            os.kill(os.getpid(), signal.SIGINT)
            await until(lambda: exits)
        assert exits == [128 + signal.SIGINT]
        assert lines[0] == {"log_level": "info", "event": "stopping", "signal": "SIGTERM"}
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(signum)

    run(main())


def test_at_sighup_what_there_is_to_read_is_read_again(run: Run) -> None:
    calls: list[str] = []

    async def main() -> None:
        read_again = [lambda: calls.append("secret"), lambda: calls.append("users")]
        process.handle_signals(asyncio.Event(), read_again)
        with capture_logs() as lines:
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: calls == ["secret", "users"])
        assert lines == []
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(signum)

    run(main())


# --- files and memory --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "wanted", "asked"),
    [
        ((1024, 4096), 4096, [(4096, 4096)]),
        ((4096, 4096), 4096, []),
        ((resource.RLIM_INFINITY,) * 2, None, []),
    ],
)
def test_as_many_files_as_are_allowed_are_asked_for(
    limits: tuple[int, int],
    wanted: int | None,
    asked: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: told.append(given))
    assert process.files_max() == wanted
    assert told == asked


def test_what_start_up_built_is_kept_out_of_collections() -> None:
    before = gc.get_threshold()
    try:
        process.settle_memory()
        assert gc.get_freeze_count() > 1_000
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


# --- the log -----------------------------------------------------------------------------------


@pytest.fixture
def log_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The reading end of what is standard error to the log."""
    reader, writer = os.pipe()
    monkeypatch.setattr(process, "LINES", LineWriter(writer))
    # A logger keeps what was configured when it was first used.
    monkeypatch.setattr(process, "log", structlog.get_logger())
    last_resort, unraisable = logging.lastResort, sys.unraisablehook
    yield reader
    structlog.reset_defaults()
    logging.lastResort, sys.unraisablehook = last_resort, unraisable
    for each in (reader, writer):
        os.close(each)


def test_lines_are_written_as_configured(log_file: int) -> None:
    process.configure_logs(form="json", level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("told", name="\udcff")
    assert process.LINES.flush(seconds=10)
    line = os.read(log_file, 10_000).decode()
    assert line.count("\n") == 1
    assert '"event": "told"' in line
    assert '"level": "warning"' in line
    assert "timestamp" in line


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
def test_audit_events_are_written_whatever_the_level(log_file: int, level: str) -> None:
    process.configure_logs(form="json", level=level)
    log = structlog.get_logger()
    log.info("quiet")
    log.debug("unheard", audit=False)
    log.info("admin_act", audit=True)
    log.warning("login_refused", audit=True)
    assert process.LINES.flush(seconds=10)
    lines = os.read(log_file, 10_000).decode().splitlines()
    assert ["admin_act" in lines[0], "login_refused" in lines[1], len(lines)] == [True, True, 2]


def test_text_is_a_form_of_its_own(log_file: int) -> None:
    process.configure_logs(form="text", level="info")
    structlog.get_logger().info("told", peer="n1")
    assert process.LINES.flush(seconds=10)
    line = os.read(log_file, 10_000).decode()
    assert "told" in line
    assert "{" not in line


@pytest.mark.parametrize(
    ("form", "is_terminal", "no_color", "is_coloured"),
    [
        ("text", False, None, False),
        ("text", True, None, True),
        ("text", True, "", True),
        ("text", True, "1", False),
        ("auto", True, None, True),
        ("auto", True, "1", False),
    ],
)
def test_text_is_coloured_on_a_terminal_alone_and_not_with_no_color(
    *,
    form: str,
    is_terminal: bool,
    no_color: str | None,
    is_coloured: bool,
    log_file: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    process.configure_logs(form=form, level="info")
    structlog.get_logger().error("told", peer="n1")
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert process.LINES.flush(seconds=10)
    assert ("\x1b" in os.read(log_file, 10_000).decode()) == is_coloured


def test_what_a_library_says_is_a_line_of_the_log(log_file: int) -> None:
    process.configure_logs(form="json", level="info")
    assert logging.lastResort is not None
    record = logging.LogRecord("aiohttp", logging.ERROR, "a.py", 1, "no %s", ("way",), None)
    logging.lastResort.handle(record)
    assert process.LINES.flush(seconds=10)
    line = json.loads(os.read(log_file, 10_000))
    assert (line["event"], line["level"]) == ("library", "error")
    assert (line["logger"], line["message"]) == ("aiohttp", "no way")


def test_what_is_raised_where_nobody_catches_it_is_one_short_line_once(log_file: int) -> None:
    process.configure_logs(form="json", level="info")

    class Raises:
        def __del__(self) -> None:
            raise ValueError("x" * 1000)

    for _ in range(3):
        Raises()
    assert process.LINES.flush(seconds=10)
    line = json.loads(os.read(log_file, 10_000))
    assert (line["event"], line["level"], line["logger"]) == ("library", "warning", "python")
    assert "ValueError('xxx" in line["message"]
    assert len(line["message"]) == process.UNRAISED_CHARACTERS_MAX


def test_what_is_raised_again_and_again_does_not_hide_what_else_is_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: now))
    hook = process._Unraised()

    def raised(error: Exception, said: str | None = None) -> None:
        given = SimpleNamespace(exc_type=type(error), exc_value=error, err_msg=said)
        hook(given)

    with capture_logs() as lines:
        for number in range(5):
            raised(ValueError(number), f"in a callback of the name b'{number}'")
            raised(ValueError(number), f"in a callback of the name <stranger {number}>")
        raised(ValueError("in __del__"))
        raised(KeyError("in a callback"), "in a callback of the name b'5'")
        now += process.UNRAISED_QUIET_S
        raised(ValueError(6), "in a callback of the name b'6'")
    assert [(line["held_back"], line["message"].rpartition(": ")[2]) for line in lines] == [
        (0, "ValueError(0)"),
        (0, "ValueError('in __del__')"),
        (0, "KeyError('in a callback')"),
        (9, "ValueError(6)"),
    ]
