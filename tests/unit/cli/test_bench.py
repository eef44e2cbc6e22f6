# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate bench: flags in, figures out, errors shown and not hidden."""

from __future__ import annotations

import csv
import json
import platform
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fake_store import FakeStore
from tests.http_served import Served
from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import dead_port

QUICK = ["--duration=200ms", "--connections=2", "--keys=50"]
FIGURES = ["requests", "per_second", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"]


def table(out: bytes) -> list[list[str]]:
    """The lines that have cells."""
    return [line.split("\t") for line in out.decode().splitlines() if "\t" in line]


def test_the_figures_are_a_table(run: Run) -> None:
    with FakeRedis() as redis:
        ran = run("bench", f"--target=127.0.0.1:{redis.target[1]}", *QUICK)
    assert (ran.code, ran.err) == (0, "")
    header, *rows, interpreter, busy = table(ran.out)
    assert ran.out.decode().splitlines()[-1] == "The keys, quorate-bench:..., stay in the store."
    assert header == ["kind", *FIGURES]
    assert [row[0] for row in rows] == ["all", "reads", "writes"]
    assert int(rows[0][1]) == int(rows[1][1]) + int(rows[2][1]) > 0
    assert interpreter[0] == "interpreter"
    assert busy[:2] == ["generator busy", "worker 1"]


@pytest.mark.parametrize("of", ["--connections=2", "--sweep=connections=1"])
def test_of_nodes_that_end_with_the_run_nobody_is_told_that_keys_stay(
    run: Run, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    with FakeRedis() as redis:
        url = f"http://127.0.0.1:{redis.target[1]}"
        nodes = nullcontext([SimpleNamespace(url=url)])
        monkeypatch.setattr("quorate.cli.bench.dev_cluster", lambda *_: nodes)
        ran = run("bench", "--dev", "--duration=200ms", "--keys=50", of)
    assert (ran.code, ran.err) == (0, "")
    assert "generator busy" in ran.out.decode()
    assert "stay" not in ran.out.decode()


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
    assert set(FIGURES) < set(result["all"])
    assert {"seconds", "errors", "misses", "generator_busy", "backlog"} < set(result)
    assert platform.python_version() in result["interpreter"]


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


def test_an_open_loop_says_what_was_asked_for_and_a_timeline_is_summed_up(run: Run) -> None:
    with FakeRedis() as redis:
        flags = ["--rate=100", "--timeline=100ms", "--reads=0"]
        ran = run("bench", f"127.0.0.1:{redis.target[1]}", *QUICK, *flags)
        assert len(redis.commands) == pytest.approx(20, abs=1)
    rows = {row[0]: row[1] for row in table(ran.out)}
    assert rows["asked for"] == "100 per second"
    assert rows["longest time without a success"].endswith(" ms")
    assert rows["failed"] == "0.000%"


def test_rounds_are_shown_one_by_one_and_the_keys_are_written_once(run: Run) -> None:
    with FakeRedis() as redis:
        ran = run("bench", f"127.0.0.1:{redis.target[1]}", *QUICK, "--rounds=2", "--reads=1")
        assert redis.commands.count(b"SET") == 50
    rows = [row for row in table(ran.out) if row[0] in ("all", "1", "2")]
    assert [row[0] for row in rows] == ["all", "1", "2"]
    assert int(rows[0][1]) == int(rows[1][1]) + int(rows[2][1])


def test_a_sweep_is_a_row_for_each_point_and_names_the_knee(run: Run) -> None:
    with FakeRedis() as redis:
        flags = ["--duration=100ms", "--keys=50", "--sweep=connections=1,2"]
        ran = run("bench", f"127.0.0.1:{redis.target[1]}", *flags)
        assert redis.commands[:50] == [b"SET"] * 50
    header, *rows, knee, interpreter, _busy = table(ran.out)
    assert header[0] == "connections"
    assert [row[0] for row in rows] == ["1", "2"]
    assert knee[0] == "knee"
    assert "the first number of connections" in knee[2]
    assert interpreter[0] == "interpreter"


@pytest.mark.parametrize("sweep", ["rate=200,100", "rate=auto"])
def test_a_sweep_of_rates_is_json_too(sweep: str, run: Run) -> None:
    with FakeRedis(lambda _: b"+OK\r\n" if sweep == "rate=200,100" else b"") as redis:
        flags = ["--duration=100ms", "--reads=0", f"--sweep={sweep}", "--json"]
        ran = run("bench", f"127.0.0.1:{redis.target[1]}", *flags)
    swept = json.loads(ran.out)
    rates = [point["plan"]["rate"] for point in swept["points"]]
    # A server that answers nothing has its knee at the first rate.
    assert rates == ([100, 200] if sweep == "rate=200,100" else [1000])
    assert swept["of"] == "rate"


def test_files_for_figures_and_pictures_are_written(run: Run, tmp_path: Path) -> None:
    figures, picture = tmp_path / "out.csv", tmp_path / "out.html"
    with FakeRedis() as redis:
        flags = [f"--csv={figures}", f"--plot={picture}", "--timeline=100ms"]
        assert run("bench", f"127.0.0.1:{redis.target[1]}", *QUICK, *flags).code == 0
    with figures.open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert kinds == ["all", "reads", "writes", "slice", "slice"]
    assert picture.read_text().count("<svg") == 3


def test_http_asks_for_the_quorums_it_is_told(run: Run) -> None:
    with Served(FakeStore()) as served:
        flags = ["--protocol=http", "--w=2", "--r=1", "--json"]
        ran = run("bench", f"127.0.0.1:{served.port}", *QUICK, *flags)
    result = json.loads(ran.out)
    assert (ran.code, result["errors"], result["misses"]) == (0, {}, 0)
    assert (result["plan"]["w"], result["plan"]["r"]) == (2, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_shows_what_there_is_and_leaves_nobody(number: signal.Signals) -> None:
    with FakeRedis() as redis:
        words = ["bench", f"127.0.0.1:{redis.target[1]}", "--duration=1h", "--reads=0"]
        process = subprocess.Popen(
            [sys.executable, "-m", "quorate", *words], stdout=subprocess.PIPE, text=True
        )
        with process:
            while len(redis.commands) < 100:
                assert process.poll() is None
            process.send_signal(number)
            out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted: these are the figures so far." in out


# --- compare -----------------------------------------------------------------------------------


@pytest.fixture
def measured(run: Run, tmp_path: Path) -> list[str]:
    """Two files of two rounds each."""
    names = []
    with FakeRedis() as redis:
        for name in ("a.json", "b.json"):
            flags = [*QUICK, "--rounds=2", "--reads=0", "--json"]
            ran = run("bench", f"127.0.0.1:{redis.target[1]}", *flags)
            (tmp_path / name).write_bytes(ran.out)
            names.append(str(tmp_path / name))
    return names


def test_two_results_are_compared_figure_by_figure(run: Run, measured: list[str]) -> None:
    ran = run("bench", "compare", *measured)
    assert (ran.code, ran.err) == (0, "")
    header, *rows = table(ran.out)
    assert header == ["kind", "figure", "before", "after", "ratio", "from", "to", "says"]
    assert [row[1] for row in rows[:2]] == ["per_second", "p50_ms"]
    low, ratio, high = float(rows[0][5]), float(rows[0][4]), float(rows[0][6])
    assert low <= ratio <= high
    assert b"Welch" in ran.out


def test_a_comparison_says_what_was_not_measured_alike(
    run: Run, measured: list[str], tmp_path: Path
) -> None:
    assert b"alike" not in run("bench", "compare", *measured).out
    result = json.loads(Path(measured[0]).read_bytes())
    result["plan"]["connections"] = 64
    other = tmp_path / "other.json"
    other.write_text(json.dumps(result))
    text = b"The two were not measured alike: connections differ."
    assert text in run("bench", "compare", measured[0], str(other)).out
    ran = run("bench", "compare", measured[0], str(other), "--json")
    assert json.loads(ran.out)["plans_differ_in"] == ["connections"]


def test_interrupted_rounds_alone_are_no_side(
    run: Run, measured: list[str], tmp_path: Path
) -> None:
    result = json.loads(Path(measured[0]).read_bytes())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**result, "rounds": [], "is_complete": False}))
    assert "every round was interrupted" in run("bench", "compare", measured[0], str(other)).err


def test_several_files_are_rounds_of_one_side(run: Run, measured: list[str]) -> None:
    ran = run("bench", "compare", ",".join(measured), ",".join(reversed(measured)), "--json")
    figures = json.loads(ran.out)["figures"]
    assert [figure["ratio"] for figure in figures] == [pytest.approx(1.0)] * len(figures)
    assert not any(figure["is_sure"] for figure in figures)


def test_what_is_no_result_cannot_be_compared(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    ran = run("bench", "compare", str(path), str(path))
    assert ran.code == 2
    assert f"{path} is no result of bench --json" in ran.err
    assert "No such file" in run("bench", "compare", "/nowhere", "/nowhere").err


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario=ycsb-g"], "'ycsb-g' is unknown; did you mean ycsb-f?"),
        (["--distribution=zipf"], "did you mean zipfian?"),
        (["--writes=upsert"], "there are: update, insert, modify"),
        (["--scenario=ycsb-d", "--route=yes"], "--route: new keys"),
        (["--preload=maybe"], "--preload: 'maybe' is neither yes nor no"),
        (["--protocol=smtp"], "--protocol: 'smtp' is neither resp nor http"),
        (["--rate=fast"], "--rate: 'fast' is no rate: write for example 2500 or 20k"),
        (["--rate=0"], "--rate: '0' is no rate"),
        (["--workers=3", "--connections=2"], "--workers: there are only 2 connections"),
        (["--keys=9999999999"], "--keys: 9999999999 is too large: the most is 1000000000"),
        (["--timeline=1ms"], "--timeline: from 10ms to 1m"),
        (["--W=2"], "--W: the Redis protocol cannot ask for it: use --protocol=http"),
        (["--R=2"], "or start the nodes with --R"),
        (["--W=10", "--protocol=http"], "--W: 10 is too large: the most is 9"),
        (["--sweep=connections"], "--sweep: 'connections': write for example connections=1,4,16"),
        (["--sweep=keys=1,2"], "write for example"),
        (["--sweep=connections=auto"], "--sweep: 'auto' is no whole number"),
        (["--sweep=rate=1k", "--rate=5"], "--sweep goes through rate: leave --rate out"),
        (["--churn=kill"], "--churn: only for nodes that bench starts: add --dev=3"),
        (["--durability=os"], "--durability: only for nodes that bench starts"),
        (["--dev=3", "--churn=flood"], "there are: kill, restart, pause"),
        (["--dev=3", "--durability=none"], "--durability: 'none' is neither sync nor os"),
        (["--dev=17"], "--dev: 17 is too large: the most is 16"),
        (
            ["--dev=3", "--target=localhost:1"],
            "--dev starts the nodes: leave the target 'localhost:1' out",
        ),
        (["--csv=/nowhere/x.csv"], "--csv: there is no directory /nowhere"),
        (["compare", "a.json"], "bench compare: no after: write quorate bench compare a.json"),
        (["localhost:1", "localhost:2"], "bench: one argument too many: 'localhost:2'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(
    arguments: list[str], said: str, run: Run
) -> None:
    ran = run("bench", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1
