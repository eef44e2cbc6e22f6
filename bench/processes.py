# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes: started on loopback, looked at through /proc, and never left behind.

Each has a session of its own, so that Ctrl-C reaches only this process, which then ends its
children by their ids.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class ProcessFailed(Exception):
    """A process, or what it was to do, failed; the message says which and why."""


class Process:
    """One child with all that it starts itself."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._stop_by = stop_by
        with log.open("ab") as diagnostics, (output or log).open("ab") as results:
            name = owner(user)
            self._popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=results,
                stderr=diagnostics,
                cwd=log.parent,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
                user=name,
                group=name,
                extra_groups=None if name is None else [],
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float) -> None:
        """Until it ends by itself; ProcessFailed if it does not, or with another code than 0."""
        try:
            code = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self._popen.args!r} did not end within {seconds:.0f}s") from None
        if code:
            raise ProcessFailed(self.obituary())

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        if self.exit_code is None:
            self._popen.send_signal(self._stop_by)
            try:
                self._popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it and its session at once, as a crash would."""
        if self.exit_code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()

    def obituary(self) -> str:
        """What it was, how it ended, and the end of its log."""
        tail = self.log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        return f"{self._popen.args!r} ended with code {self.exit_code}: {tail}"


def owner(user: str | None) -> str | None:
    """The user to become: the one asked for if we are root and there is one; None: stay."""
    if user is None or os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(user)
    except KeyError:
        return None
    return user


def make_directory(path: Path, *, user: str | None) -> Path:
    """A new directory of the user's own."""
    path.mkdir(parents=True)
    name = owner(user)
    if name is not None:
        shutil.chown(path, name, name)
    return path


def wait_for(is_ready: Callable[[], bool], processes: Sequence[Process], *, what: str) -> None:
    """Poll until it is ready; ProcessFailed when a process ends or it takes `START_SECONDS`.

    An OSError of `is_ready` counts as not yet.
    """
    until = time.monotonic() + START_SECONDS
    while not _holds(is_ready):
        for process in processes:
            if process.exit_code is not None:
                raise ProcessFailed(process.obituary())
        if time.monotonic() > until:
            raise ProcessFailed(f"{what}: not within {START_SECONDS:.0f}s")
        time.sleep(_POLL_SECONDS)


def _holds(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except OSError:
        return False


def program(*names: str) -> str:
    """The path of the first of these programs that there is; ProcessFailed if there is none."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise ProcessFailed(f"{names[0]} is not installed")


def end_children() -> None:
    """Kill every child left: a start that was interrupted may have made one that nobody holds."""
    for pid, fields in _stats().items():
        if int(fields[1]) == os.getpid():
            os.kill(pid, signal.SIGKILL)


# --- what they use -------------------------------------------------------------------------------


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of these processes and of all their descendants, ended ones included."""
    stats = _stats()
    wanted, ticks = set(pids), 0
    # A child's id may be lower than its parent's, so look until none is added.
    while True:
        children = {pid for pid, fields in stats.items() if int(fields[1]) in wanted} - wanted
        if not children:
            break
        wanted |= children
    for pid in wanted & stats.keys():
        ticks += sum(int(field) for field in stats[pid][11:15])
    return ticks / _TICKS


def _stats() -> dict[int, list[str]]:
    """Of each process the fields of /proc/PID/stat from its state on."""
    stats: dict[int, list[str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            stats[int(name)] = text.rpartition(")")[2].split()
    return stats


def resident_bytes(pid: int) -> int:
    """Memory of the process that is in RAM."""
    pages = int(Path("/proc", str(pid), "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
