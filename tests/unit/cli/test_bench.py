# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate bench: flags in, figures out, errors shown and not hidden."""

from __future__ import annotations

import json

from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import dead_port

QUICK = ["--duration=200ms", "--connections=2", "--keys=50"]


def test_the_figures_are_a_table(run: Run) -> None:
    with FakeRedis() as redis:
        ran = run("bench", f"--target=127.0.0.1:{redis.target[1]}", *QUICK)
    assert (ran.code, ran.err) == (0, "")
    *table, note = ran.out.decode().splitlines()
    header, *rows = [line.split("\t") for line in table]
    assert note == "The keys, quorate-bench:..., stay in the store."
    assert header == ["kind", "requests", "per_second", "p50_ms", "p99_ms", "p999_ms", "max_ms"]
    assert [row[0] for row in rows] == ["all", "reads", "writes"]
    assert int(rows[0][1]) == int(rows[1][1]) + int(rows[2][1]) > 0


def test_json_says_what_was_done_and_what_came_out(run: Run) -> None:
    flags = ["--reads=0", "--pipeline=3", "--value-bytes=1kB", "--wait=2", "--json"]
    with FakeRedis() as redis:
        ran = run("bench", f"127.0.0.1:{redis.target[1]}", *QUICK, *flags)
        assert {len(value) for value in redis.values.values()} == {1000}
    result = json.loads(ran.out)
    assert result["plan"]["pipeline"] == 3
    assert result["plan"]["wait"] == 2
    assert result["reads"]["requests"] == 0
    assert result["writes"]["requests"] == result["all"]["requests"] > 0


def test_errors_are_shown_by_kind_and_exit_3(run: Run) -> None:
    with FakeRedis(lambda _: b"-NOREPLICAS no\r\n") as redis:
        ran = run("bench", f"--target=127.0.0.1:{redis.target[1]}", *QUICK, "--reads=0")
    assert ran.code == 3
    assert b"error\tNOREPLICAS\t" in ran.out


def test_a_target_that_refuses_is_one_line_and_exit_2(run: Run) -> None:
    with dead_port() as url:
        ran = run("bench", f"--target={url}", *QUICK)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith("quorate: bench of 127.0.0.1:")
    assert "Connection refused" in ran.err
    assert ran.err.count("\n") == 1


def test_a_failure_is_json_where_that_is_asked_for(run: Run) -> None:
    with dead_port() as url:
        ran = run("bench", f"--target={url}", *QUICK, "--json")
    assert (ran.code, json.loads(ran.out)["error"]["code"]) == (2, "bench_failed")
