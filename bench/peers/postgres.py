# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL as a key-value table: a primary whose commits wait for any one of two standbys.

Measured by its own pgbench, which is written in C: a driver in Python would measure the driver.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.generator import VALUE_BYTES, Measured, StoreLoad, drive, measurement
from bench.processes import Process, ProcessFailed, make_directory, program, wait_for
from bench.systems import Running, Workbench
from quorate.bench.latency import counted, summary
from quorate.cli.processes import free_ports

USER: Final = "postgres"
KEYS: Final = 100_000
_STANDBYS: Final = ("s1", "s2")
_KEY: Final = "'quorate-bench:' || lpad({number}, 15, '0')"
_TABLE: Final = f"""
CREATE TABLE kv (key text PRIMARY KEY, value text NOT NULL);
INSERT INTO kv SELECT {_KEY.format(number="n::text")}, repeat('v', {VALUE_BYTES})
    FROM generate_series(0, {KEYS - 1}) AS n;
VACUUM ANALYZE kv;
"""
_DRAW: Final = f"\\set number random(0, {KEYS - 1})\n"
_DRAWN: Final = _KEY.format(number=":number::text")
_GET: Final = f"{_DRAW}SELECT value FROM kv WHERE key = {_DRAWN};\n"
_PUT: Final = f"""{_DRAW}INSERT INTO kv VALUES ({_DRAWN}, repeat('w', {VALUE_BYTES}))
    ON CONFLICT (key) DO UPDATE SET value = excluded.value;
"""
_SECONDS_LEAST: Final = 5
"""Connecting counts toward pgbench's time, though not toward its rate."""
_SAMPLED: Final = 0.1
"""Share of transactions whose latency pgbench writes down."""
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """As it comes, but for the standbys, memory for buffers, and room between checkpoints."""

    @property
    def name(self) -> str:
        return "postgres"

    @contextmanager
    def start(self, place: Workbench) -> Iterator[Running]:
        """Started, with both standbys streaming and the table filled."""
        ports = free_ports(1 + len(_STANDBYS))
        directory = make_directory(place.directory, user=USER)
        primary = directory / "primary"
        _once(directory, "initdb", f"--pgdata={primary}", "--auth=trust", f"--username={USER}")
        with Running(ports[:1]) as running:
            names = f"synchronous_standby_names=ANY 1 ({','.join(_STANDBYS)})"
            running.processes.append(_server(primary, ports[0], names))
            wait_for(lambda: _is_up(directory, ports[0]), running.processes, what="the primary")
            for name, port in zip(_STANDBYS, ports[1:], strict=True):
                running.processes.append(_standby(directory, name, port, ports[0]))
            wait_for(lambda: _streams(directory, ports[0]), running.processes, what="the standbys")
            _query(directory, ports[0], _TABLE)
            yield running


def _server(data: Path, port: int, *settings: str) -> Process:
    command = [
        binary("postgres"),
        "-D",
        str(data),
        "-p",
        str(port),
        "-c",
        "unix_socket_directories=",
    ]
    for setting in ("shared_buffers=256MB", "max_wal_size=8GB", *settings):
        command += ["-c", setting]
    # SIGINT: end now, whoever is connected.
    return Process(command, log=data.with_suffix(".log"), user=USER, stop_by=signal.SIGINT)


def _standby(directory: Path, name: str, port: int, primary: int) -> Process:
    source = ("--host=127.0.0.1", f"--port={primary}", f"--username={USER}")
    _once(directory, "pg_basebackup", f"--pgdata={directory / name}", *source, "--checkpoint=fast")
    (directory / name / "standby.signal").touch()
    follow = f"primary_conninfo=host=127.0.0.1 port={primary} user={USER} application_name={name}"
    return _server(directory / name, port, follow)


def _is_up(directory: Path, port: int) -> bool:
    try:
        _query(directory, port, "SELECT 1")
    except ProcessFailed:
        return False
    return True


def _streams(directory: Path, port: int) -> bool:
    text = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    return _query(directory, port, text).strip() == str(len(_STANDBYS))


def _query(directory: Path, port: int, text: str) -> str:
    address = ("--host=127.0.0.1", f"--port={port}", f"--username={USER}", "--dbname=postgres")
    script = directory / "query.sql"
    script.write_text(text, encoding="utf-8")
    return _once(directory, "psql", "-AtqX", "-v", "ON_ERROR_STOP=1", *address, "-f", str(script))


def _once(directory: Path, name: str, *arguments: str) -> str:
    """Run a program to its end; what it printed. Raises ProcessFailed."""
    output = directory / f"{name}.out"
    output.unlink(missing_ok=True)
    process = Process(
        [binary(name), *arguments], log=directory / f"{name}.log", output=output, user=USER
    )
    try:
        process.wait(60)
    finally:
        process.kill()
    return output.read_text(encoding="utf-8")


def binary(name: str) -> str:
    """Debian keeps the server's programs of each version apart; the newest is taken."""
    found = list(Path("/usr/lib/postgresql").glob(f"[0-9]*/bin/{name}"))
    found.sort(key=lambda path: float(path.parts[4]), reverse=True)
    return program(*map(str, found), name)


@dataclass(frozen=True, kw_only=True)
class Pgbench(StoreLoad):
    """Prepared statements, a transaction each; latencies from a sample."""

    @property
    def name(self) -> str:
        return "pgbench"

    def measure(self, running: Running, place: Workbench, *, seconds: float) -> Measured:
        directory = place.directory
        script = directory / ("get.sql" if self.reads else "put.sql")
        script.write_text(_GET if self.reads else _PUT, encoding="utf-8")
        for old in directory.glob("latencies.*"):
            old.unlink()
        seconds = max(_SECONDS_LEAST, round(seconds))
        command = [binary("pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={script}"]
        command += [f"--client={self.connections}", "--jobs=1", f"--time={seconds}"]
        command += ["--log", f"--log-prefix={directory / 'latencies'}"]
        command += [f"--sampling-rate={_SAMPLED}", "--host=127.0.0.1", f"--username={USER}"]
        command += [f"--port={running.ports[0]}", "postgres"]
        output, usage = drive(command, running, place, patience=seconds + _PATIENCE_SECONDS)
        sampled = summary([counted(_latencies(directory), in_time=0)], seconds=seconds)
        seen = msgspec.structs.replace(
            sampled,
            requests=int(_number(r"transactions actually processed: ([0-9]+)", output)),
            per_second=_number(r"tps = ([0-9.]+)", output),
        )
        errors = int(_number(r"number of failed transactions: ([0-9]+)", output))
        return measurement(seen, errors, usage, told=output)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ProcessFailed(f"pgbench printed no {pattern!r}: {text}")
    return float(found[1])


def _latencies(directory: Path) -> Counter[int]:
    """By microseconds, which are the third column of pgbench's log."""
    logs = directory.glob("latencies.*")
    lines = (line for log in logs for line in log.read_text(encoding="ascii").splitlines())
    return Counter(int(line.split()[2]) for line in lines)
