# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditional writes, counters and locks over HTTP, against real nodes: raced for through all of
them, with one that hangs, and with too few."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quorate.client import Client, LeaseLost, Written
from quorate.errors import InvalidRequest, Outcome, PreconditionFailed, Unavailable
from tests.cluster.processes import Cluster, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "http.md"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("conditions"), "-durability=os") as cluster:
        yield cluster


def test_of_those_who_build_on_one_version_one_wins(shared: Cluster) -> None:
    def write(number: int, version: str | None) -> str | PreconditionFailed:
        with Client(shared.urls[number % 3]) as client:
            try:
                return client.compare_and_set("key", version, f"{number}").version
            except PreconditionFailed as failed:
                return failed

    version: str | None = None
    with Client(shared.urls) as client, ThreadPoolExecutor(6) as pool:
        for _ in range(10):
            results = list(pool.map(lambda number: write(number, version), range(6)))  # noqa: B023
            won = [each for each in results if isinstance(each, str)]
            lost = [each for each in results if isinstance(each, PreconditionFailed)]
            assert len(won) == 1
            assert {each.version for each in lost} == {won[0]}
            assert version is None or won[0] > version
            found = client.get("key")
            assert found is not None
            assert (found.version, found.value) == (won[0], b"%d" % results.index(won[0]))
            version = won[0]


def test_no_addition_is_lost_beside_others_and_beside_plain_writes_of_other_keys(
    shared: Cluster,
) -> None:
    def add(number: int) -> list[int | None]:
        with Client(shared.urls[number % 3]) as client:
            counts = [client.increment("n").value for _ in range(20)]
            for _ in range(5):
                client.update("list", lambda old: (old or b"") + b"x", timeout=30)
                client.put(f"own/{number}", "v")
            return counts

    with ThreadPoolExecutor(6) as pool:
        counts = [count for each in pool.map(add, range(6)) for count in each]
    assert sorted(counts, key=str) == sorted(range(1, 121), key=str), "each number once"
    with Client(shared.urls) as client:
        found = client.get("list")
        assert found is not None
        assert found.value == b"x" * 30


def test_the_examples_of_the_page_work(shared: Cluster) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    section = PAGE.read_text("utf-8").partition("\n## Read-modify-write\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    script = script.replace("curl ", "curl -sS ").replace("8000", str(shared.nodes[0].port))
    done = subprocess.run(
        ["sh", "-e", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    first, rest = done.stdout[:2], done.stdout[2:]
    assert (first, rest[:2], rest[-2:]) == ("ok", "42", "42")
    assert re.search(r'\nETag: "[0-9a-f]{44}"\s', rest)


def test_a_holder_whose_node_hangs_stops_before_another_one_begins(quick: Cluster) -> None:
    """It is told by its own clock, for nobody else can tell it."""
    beginning = threading.Event()
    held: list[bool] = []
    tokens: list[str] = []

    def wait() -> None:
        with Client(quick.urls[1]) as other, other.lock("jobs", ttl=5, timeout=30) as second:
            held.append(first.is_held)
            tokens.append(second.token)
            beginning.set()

    waiting = threading.Thread(target=wait)
    client = Client(quick.urls[0], timeout=1)
    with pytest.raises(LeaseLost), client.lock("jobs", ttl=3) as first:  # noqa: PT012
        waiting.start()
        quick.nodes[0].signal(signal.SIGSTOP)
        wait_until(lambda: not first.is_held, within_s=10, what="the end of the lease")
        assert beginning.wait(20)
        quick.nodes[0].signal(signal.SIGCONT)
    client.close()
    waiting.join(20)
    assert held == [False]
    assert tokens[0] > first.token


def test_without_a_majority_nothing_is_guessed(quick: Cluster) -> None:
    with Client(quick.urls[0]) as client:
        client.increment("n")
        for node in quick.nodes[1:]:
            node.kill()
        unknown = 0
        for write in (
            lambda: client.increment("n", timeout=1),
            lambda: client.compare_and_set("k", None, "v", timeout=1),
        ):
            with pytest.raises(Unavailable) as failed:
                write()
            assert failed.value.outcome is not None
            unknown += failed.value.outcome is Outcome.UNKNOWN
        quick.start()
        count = client.increment("n").value
        assert count is not None
        assert 2 <= count <= 2 + unknown


@pytest.mark.parametrize("setting", ["W", "R"])
def test_a_node_that_asks_less_than_a_majority_names_its_setting(
    tmp_path: Path, setting: str
) -> None:
    with Cluster(tmp_path, f"-{setting}=1") as cluster, Client(cluster.urls) as client:
        for write in (
            lambda: client.increment("n"),
            lambda: client.put("n", "v", if_absent=True),
        ):
            with pytest.raises(InvalidRequest, match=f"-{setting} is set to less") as failed:
                write()
            assert failed.value.outcome is Outcome.NOT_APPLIED
        assert isinstance(client.put("n", "v"), Written)
