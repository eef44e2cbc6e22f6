# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of metrics: all that is counted stands in it, and in docs/operations.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quorate.app import _disk_sizes
from quorate.config import Config
from quorate.doors.http.metrics import COUNTERS, GAUGES
from quorate.host.journal import _COUNTERS

ROOT = Path(__file__).resolve().parents[4]
SOURCE = ROOT / "src/quorate"


def counted_in_the_core() -> set[str]:
    texts = [path.read_text("utf-8") for path in (SOURCE / "core").rglob("*.py")]
    return {name for text in texts for name in re.findall(r'counters\["(\w+)"\]', text)}


def test_every_counter_of_the_node_is_a_metric() -> None:
    """Of a name that is made while running there is one kind: `failed_<code>`."""
    assert counted_in_the_core()
    assert counted_in_the_core() | set(_COUNTERS) <= set(COUNTERS)
    text = "".join(path.read_text("utf-8") for path in (SOURCE / "core").rglob("*.py"))
    made = re.findall(r'counters\[(f"[^"]*")', text)
    assert set(made) == {'f"failed_{result.code}"', 'f"failed_{parked.error.code}"'}


def test_every_number_that_the_program_adds_is_a_metric() -> None:
    text = (SOURCE / "app.py").read_text("utf-8") + (SOURCE / "host/driver.py").read_text("utf-8")
    names = set(re.findall(r'"(\w+)": (?:listener|(?:engine\.)?lru|usage|self\._log)', text))
    assert {"connections", "disk_free_bytes", "log_lines_lost", "cache_hits"} <= names
    assert names - {"cache_hits", "cache_misses"} <= set(COUNTERS) | set(GAUGES)


def test_no_two_metrics_have_one_name_and_counters_end_as_prometheus_adds() -> None:
    names = [name for name, _ in (*COUNTERS.values(), *GAUGES.values())]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.endswith("_total")]


def test_the_pages_for_operators_name_every_metric() -> None:
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+)", page))
    wanted = {name for name, _ in (*COUNTERS.values(), *GAUGES.values())}
    assert wanted - named == set()


def test_the_disk_is_that_of_the_data(tmp_path: Path) -> None:
    sizes = _disk_sizes(Config(data=str(tmp_path)))
    assert 0 < sizes["disk_free_bytes"] < sizes["disk_bytes"]
    assert _disk_sizes(Config(engine="memory")) == {}
    assert _disk_sizes(Config(data=str(tmp_path / "gone"))) == {}


@pytest.mark.parametrize("table", [COUNTERS, GAUGES])
def test_every_text_is_a_sentence_of_its_own(table: dict[str, tuple[str, str]]) -> None:
    texts = [text for _, text in table.values()]
    assert len(set(texts)) == len(texts)
    assert all(re.fullmatch(r"[A-Z].*[a-z0-9]", text) for text in texts)
