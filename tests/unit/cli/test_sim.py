# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate sim: seeds in, findings out, each with the command that shows it again."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from quorate.cli import sim
from quorate.sim.checkers import Violation
from quorate.sim.draw import Options, draw
from quorate.sim.faults import FAULTS
from quorate.sim.history import Kind
from quorate.sim.plan import Plan
from quorate.sim.planfile import decode, encode
from quorate.sim.run import RunResult
from quorate.sim.sometimes import BRANCHES
from quorate.sim.trace import Trace
from tests.unit.cli.conftest import Run

SMALL = ["--operations=20", "--faults=kill,split"]


class FakeWorlds:
    """Worlds that run nothing: `broken` says which plans fail. Keeps what it was asked to run."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.broken: Callable[[Plan], bool] = lambda _: False
        self.interrupted_at: int | None = None
        self.interrupted_by = signal.SIGINT

    def run(self, plan: Plan, *, trace: Trace | None = None) -> RunResult:
        """As `sim.run` does."""
        if len(self.plans) == self.interrupted_at:
            signal.raise_signal(self.interrupted_by)
        self.plans.append(plan)
        if trace is not None:
            trace.line(1.5, "n0", "fault", "kill")
        violations = (
            [Violation("I6", b"key\n", "it went back in time")] if self.broken(plan) else []
        )
        return RunResult(plan.seed, "abcd", 3, Counter(ok=3), violations=violations)


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeWorlds]:
    """Stands in for the simulator; files go to a directory of the test."""
    fake = FakeWorlds()
    monkeypatch.setattr(sim, "run", fake.run)
    monkeypatch.chdir(tmp_path)
    # Whoever started the tests may have had them ignore it.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield fake
    signal.signal(signal.SIGINT, previous)


def puts(plan: Plan) -> int:
    """How many puts there are in a plan."""
    requests = [each for script in plan.scripts for visit in script for each in visit.requests]
    return sum(each.kind is Kind.PUT for each in requests)


# --- what is run -------------------------------------------------------------------------------


def test_seeds_are_a_range_and_all_of_it_is_run(run: Run, worlds: FakeWorlds) -> None:
    assert run("sim", "--seeds=3", "--first-seed=7", "--jobs=1", *SMALL).code == 0
    assert [plan.seed for plan in worlds.plans] == [7, 8, 9]


def test_flags_draw_the_plan(run: Run, worlds: FakeWorlds) -> None:
    flags = ["--nodes=7", "--replication=5", "--W=4", "--R=2", "--operations=50", "--faults=rot"]
    assert run("sim", "--seed=5", "--clients=20", *flags).code == 0
    assert worlds.plans == [draw(5, Options(7, 5, 4, 2, 50, 20, frozenset({"rot"})))]
    assert len(worlds.plans[0].scripts) == 20


def test_without_flags_the_defaults_draw_it(run: Run, worlds: FakeWorlds) -> None:
    run("sim", "--seed=5")
    assert worlds.plans == [draw(5, Options())]


def test_no_fault_at_all_can_be_asked_for(run: Run, worlds: FakeWorlds) -> None:
    assert run("sim", "--seed=5", "--faults=none").code == 0
    assert worlds.plans == [draw(5, Options(faults=frozenset()))]


def test_fewer_nodes_than_copies_have_a_copy_each(run: Run, worlds: FakeWorlds) -> None:
    assert run("sim", "--seeds=20", "--jobs=1", "--nodes=2").code == 0
    assert {plan.nodes for plan in worlds.plans} == {2}
    assert {plan.settings["replication"] for plan in worlds.plans} == {1, 2}


def test_a_quorum_that_is_asked_for_has_its_replicas(run: Run, worlds: FakeWorlds) -> None:
    assert run("sim", "--seeds=20", "--jobs=1", "--W=4").code == 0
    assert {plan.settings["w"] for plan in worlds.plans} == {4}
    assert min(plan.settings["replication"] for plan in worlds.plans) == 4
    assert all(plan.nodes >= plan.settings["replication"] for plan in worlds.plans)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--faults=kil"], "--faults: no such fault: 'kil'; did you mean kill? there are: kill, "),
        (["--faults=kill,,split"], "--faults: no such fault: ''; there are: "),
        (["--faults=all,kill"], "--faults: no such fault: 'all'"),
        (["--W=17"], "--W: 17 is too large: there are at most 16 replicas"),
        (["--replication=1", "--W=2"], "--W: 2 is too large: there are at most 1 replicas"),
        (["--nodes=2", "--R=3"], "--R: 3 is too large: there are at most 2 replicas"),
        (["--nodes=5", "--replication=6"], "--replication: 6 is too large: there are at most 5"),
        (["--nodes=17"], "--nodes: 17 is too large: there are at most 16"),
        (["--nodes=0"], "--nodes: '0' is no whole number from 1 up"),
        (["--nodes=any"], "--nodes: 'any' is no whole number from 1 up"),
        (["--seeds=0"], "--seeds: '0' is no whole number from 1 up"),
        (["--seeds=1000000001"], "--seeds: 1000000001 is too large: the most is 1000000000"),
        (["--operations=100001"], "--operations: 100001 is too large: the most is 100000"),
        (["--jobs=0"], "--jobs: '0' is no whole number"),
        (["--seed=-1"], "--seed: '-1' is no whole number"),
        (["--seed=1", "--seeds=5"], "--seed says it all: leave --seeds out"),
        (["--seed=1", "--plan=x"], "--seed says it all: leave --plan out"),
        (["--trace"], "--trace: it is of one world: name it with --seed or --plan"),
        (["--plan=missing.json"], "--plan: No such file or directory: missing.json"),
        (["--plan=broken.json"], "--plan: broken.json is no plan: "),
        (["--plan=good.json", "--faults=kill"], "--plan says it all: leave --faults out"),
        (["5"], "sim: it takes flags alone, and '5' is no flag"),
    ],
)
def test_misuse_is_one_line_exit_2_and_no_world(
    arguments: list[str], said: str, run: Run, worlds: FakeWorlds
) -> None:
    Path("broken.json").write_text("{}")
    Path("good.json").write_bytes(encode(draw(1, Options())))
    ran = run("sim", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith(f"quorate: {said}")
    assert ran.err.count("\n") == 1
    assert worlds.plans == []


def test_an_unknown_fault_is_told_all_names(run: Run, worlds: FakeWorlds) -> None:
    told = run("sim", "--faults=kil").err
    assert all(name in told for name in (*FAULTS, "all", "none"))
    assert worlds.plans == []


def test_the_help_and_the_page_name_every_fault_and_no_other(run: Run) -> None:
    text = " ".join(run("sim", "--help").out.decode().split())
    named = text.partition("Faults: ")[2].partition(".")[0]
    assert named.split(", ") == list(FAULTS)
    page = (Path(__file__).parents[3] / "docs" / "simulation.md").read_text(encoding="utf-8")
    table = page.partition("## The faults")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(FAULTS)


# --- what is told ------------------------------------------------------------------------------


def test_green_seeds_are_a_summary_and_0(run: Run, worlds: FakeWorlds) -> None:
    ran = run("sim", "--seeds=4", "--jobs=1")
    assert (ran.code, ran.err) == (0, "")
    facts = dict(line.split("\t", 1) for line in ran.out.decode().splitlines() if "\t" in line)
    assert facts["failed"] == "none"
    assert facts["operations"] == "12"
    assert facts["fault budget"].startswith("4 worlds within, 0 beyond")
    assert len(worlds.plans) == 4


def test_only_many_seeds_are_told_what_they_never_reached(run: Run, worlds: FakeWorlds) -> None:
    few, many = (run("sim", f"--seeds={count}", "--jobs=1").out.decode() for count in (99, 100))
    assert "never reached" not in few
    assert f"\nnever reached: {', '.join(BRANCHES)}\n" in many
    assert len(worlds.plans) == 199


@pytest.mark.parametrize(
    ("beyond", "told"),
    [
        ({0, 1, 2}, "none; 3 worlds never (they lost copies beyond the fault budget)"),
        ({1}, "none; 3 worlds never (1 of them lost copies beyond the fault budget)"),
        (set(), "none; 3 worlds never"),
    ],
)
def test_worlds_that_never_converge_say_why_if_they_may(
    beyond: set[int], told: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sim, "run", lambda plan, **_: RunResult(plan.seed, in_budget=plan.seed not in beyond)
    )
    out = run("sim", "--seeds=3", "--jobs=1").out.decode()
    assert f"\nconvergence\t{told}\n" in out


def test_a_failed_seed_is_told_in_words_with_its_command_and_1(
    run: Run, worlds: FakeWorlds
) -> None:
    worlds.broken = lambda plan: plan.seed == 2
    ran = run("sim", "--seeds=4", "--jobs=1", "--nodes=3", "--faults=kill,split")
    assert ran.code == 1
    lines = ran.out.decode().splitlines()
    assert lines[:3] == [
        "seed 2: 1 violation",
        "  I6 key\\x0a: it went back in time",
        "  again: quorate sim --seed=2 --nodes=3 --faults=kill,split",
    ]
    again = shlex.split(lines[2].partition(": ")[2])[1:]
    assert run(*again).code == 1
    assert worlds.plans[-1] == worlds.plans[2]


def test_of_many_violations_the_first_of_each_kind_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["I6", "I6", "P3", "I6"]
    violations = [Violation(name, b"", f"no. {i}") for i, name in enumerate(names)]
    monkeypatch.setattr(sim, "run", lambda plan, **_: RunResult(plan.seed, violations=violations))
    told = run("sim", "--seed=1").out.decode().splitlines()
    assert told[:3] == ["seed 1: 4 violations", "  I6: no. 0 (and 2 more of I6)", "  P3: no. 2"]


def test_a_world_that_raises_is_a_finding_and_the_others_are_run(
    run: Run, worlds: FakeWorlds
) -> None:
    def broken(plan: Plan) -> bool:
        assert plan.seed != 1, "no record ties"
        return False

    worlds.broken = broken
    ran = run("sim", "--seeds=3", "--jobs=1")
    assert ran.code == 1
    assert b"seed 1: 1 violation\n  crash: AssertionError: no record ties" in ran.out
    assert b"seeds\t3 in" in ran.out


def test_json_has_everything_in_one_document(run: Run, worlds: FakeWorlds) -> None:
    worlds.broken = lambda plan: plan.seed == 2
    ran = run("sim", "--seeds=4", "--jobs=1", "--json")
    assert (ran.code, ran.err) == (1, "")
    result = json.loads(ran.out)
    assert (result["seeds"], result["failed"], result["is_complete"]) == (4, [2], True)
    assert result["failures"] == [
        {
            "seed": 2,
            "digest": "abcd",
            "violations": [{"invariant": "I6", "key": "key\n", "told": "it went back in time"}],
            "replay": "quorate sim --seed=2",
        }
    ]


def test_a_single_seed_says_its_digest_and_size(run: Run, worlds: FakeWorlds) -> None:
    ran = run("sim", "--seed=3", "--operations=20", "--faults=none", "--nodes=5")
    assert b"digest\tabcd\n" in ran.out
    assert b"plan\t20 operations, 0 faults, 5 nodes\n" in ran.out
    result = json.loads(run("sim", "--seed=3", "--faults=none", "--json").out)
    assert result["world"]["digest"] == "abcd"
    assert result["seconds"] is result["seeds_per_second"] is None, "the same is printed again"
    assert len(worlds.plans) == 2


def test_a_transcript_comes_before_the_summary(run: Run, worlds: FakeWorlds) -> None:
    lines = run("sim", "--seed=3", "--trace").out.decode().splitlines()
    assert lines[0].split() == ["1.500", "n0", "fault", "kill"]
    result = json.loads(run("sim", "--seed=3", "--trace", "--json").out)
    assert result["trace"] == [lines[0]]
    assert "trace" not in json.loads(run("sim", "--seed=3", "--json").out)
    assert len(worlds.plans) == 3


def test_an_interrupt_tells_what_is_known_and_exits_130(run: Run, worlds: FakeWorlds) -> None:
    worlds.interrupted_at = 2
    ran = run("sim", "--seeds=9", "--jobs=1", "--json")
    result = json.loads(ran.out)
    assert (ran.code, result["seeds"], result["is_complete"]) == (130, 2, False)


def test_sigterm_tells_what_is_known_and_exits_143(run: Run, worlds: FakeWorlds) -> None:
    worlds.interrupted_at, worlds.interrupted_by = 2, signal.SIGTERM
    before = signal.getsignal(signal.SIGTERM)
    ran = run("sim", "--seeds=9", "--jobs=1")
    assert (ran.code, ran.err) == (143, "")
    assert b"seeds\t2 in" in ran.out
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_after_a_violation_exits_1(run: Run, worlds: FakeWorlds) -> None:
    worlds.interrupted_at = 2
    worlds.broken = lambda plan: plan.seed == 1
    ran = run("sim", "--seeds=9", "--jobs=1")
    assert ran.code == 1
    assert b"seeds\t2 in" in ran.out


# --- shrinking ---------------------------------------------------------------------------------


def test_the_lowest_seed_that_failed_is_shrunk_to_a_file_that_fails_again(
    run: Run, worlds: FakeWorlds
) -> None:
    worlds.broken = lambda plan: plan.seed >= 1 and puts(plan) > 1
    ran = run("sim", "--seeds=3", "--jobs=1", "--shrink", "--replication=3", "--faults=kill")
    assert ran.code == 1
    *_, told, again = ran.out.decode().splitlines()
    assert told == "shrunk seed 1 to 2 operations, 0 faults, 3 nodes: seed1.json"
    assert again == "  again: quorate sim --plan=seed1.json"
    small = decode(Path("seed1.json").read_bytes())
    assert puts(small) == 2
    ran = run("sim", "--plan=seed1.json")
    assert ran.code == 1
    assert worlds.plans[-1] == small
    assert b"again: quorate sim --plan=seed1.json\n" in ran.out


def test_a_plan_can_be_shrunk_too_and_the_file_named(run: Run, worlds: FakeWorlds) -> None:
    worlds.broken = lambda plan: puts(plan) > 0
    Path("first.json").write_bytes(encode(draw(9, Options())))
    flags = ["--plan=first.json", "--shrink", "--out=small one.json", "--json"]
    shrunk = json.loads(run("sim", *flags).out)["shrunk"]
    assert shrunk["replay"] == "quorate sim '--plan=small one.json'"
    assert puts(decode(Path("small one.json").read_bytes())) == 1


def test_another_violation_is_not_the_one_that_is_shrunk(
    run: Run, worlds: FakeWorlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_plan(plan: Plan, *, trace: Trace | None = None) -> RunResult:
        outcome = worlds.run(plan, trace=trace)
        kind = "I6" if puts(plan) > 1 else "P3"
        outcome.violations = [Violation(kind, b"", "")]
        return outcome

    monkeypatch.setattr(sim, "run", run_plan)
    assert run("sim", "--seed=1", "--shrink").code == 1
    assert puts(decode(Path("seed1.json").read_bytes())) == 2


def test_nothing_is_written_where_nothing_failed_and_that_is_told(
    run: Run, worlds: FakeWorlds
) -> None:
    ran = run("sim", "--seed=1", "--shrink")
    assert ran.code == 0
    assert ran.out.endswith(b"\nnothing to shrink: no promise was broken\n")
    assert json.loads(run("sim", "--seed=1", "--shrink", "--json").out)["shrunk"] is None
    assert list(Path().iterdir()) == []
    assert len(worlds.plans) == 2


def test_an_interrupt_before_shrinking_stops_that_too(run: Run, worlds: FakeWorlds) -> None:
    worlds.broken = lambda plan: plan.seed == 1
    worlds.interrupted_at = 2
    assert run("sim", "--seeds=9", "--jobs=1", "--shrink").code == 1
    assert list(Path().iterdir()) == []


def test_an_interrupt_while_shrinking_keeps_the_smallest_so_far(
    run: Run, worlds: FakeWorlds
) -> None:
    worlds.broken = lambda plan: puts(plan) > 0
    worlds.interrupted_at = 20
    assert run("sim", "--seed=1", "--shrink").code == 1
    assert 0 < puts(decode(Path("seed1.json").read_bytes())) < puts(draw(1, Options()))


# --- real worlds -------------------------------------------------------------------------------

QUICK = ["--operations=10", "--faults=none", "--nodes=3", "--json"]


def test_two_processes_find_what_one_finds(run: Run) -> None:
    one, two = (
        json.loads(run("sim", "--seeds=4", f"--jobs={jobs}", *QUICK).out) for jobs in (1, 2)
    )
    for result in (one, two):
        assert (result["seeds"], result["failed"]) == (4, [])
        # Some are asked again.
        assert result["operations"] >= 40
        seconds, per_second = result.pop("seconds"), result.pop("seeds_per_second")
        assert per_second == pytest.approx(4 / seconds, rel=0.1)
    assert one == two


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_all_that_is_printed_of_a_world_alone_is_the_same_again(form: list[str], run: Run) -> None:
    # A world that is soon over: in that of 7 copies move, which takes forty times as long.
    once, again = (run("sim", "--seed=8", "--operations=20", "--trace", *form) for _ in "12")
    assert once.out == again.out
    assert once.out


def test_a_plan_from_a_file_is_the_same_run_as_its_seed(run: Run, tmp_path: Path) -> None:
    """A number that became another on its way through the file would show in the digest."""
    path = tmp_path / "plan.json"
    path.write_bytes(encode(draw(3, Options(operations=30))))
    drawn = json.loads(run("sim", "--seed=3", "--operations=30", "--json").out)["world"]
    assert json.loads(run("sim", f"--plan={path}", "--json").out)["world"] == drawn


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_ends_every_process_and_tells_what_is_known(
    signum: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "quorate", "sim", "--seeds=100000", "--jobs=2", *QUICK]
    # A shell starts what it puts into the background deaf to Ctrl-C, and children inherit that.
    hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=hearing,
    ) as process:
        try:
            workers = _workers(process.pid, count=2)
            os.killpg(process.pid, signum)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (code, b"")
    assert json.loads(out)["is_complete"] is False
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def _workers(pid: int, *, count: int) -> list[int]:
    """The worker processes of `pid`, once there are `count` and it takes interrupts again."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        workers = [each for each in map(int, told.split()) if _is_worker(each)]
        if len(workers) >= count and _takes_interrupts(pid):
            return workers
        time.sleep(0.05)
    raise AssertionError("no workers")


def _is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _takes_interrupts(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    return bool(int(caught, 16) & 1 << (signal.SIGINT - 1))
