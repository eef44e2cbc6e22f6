# SPDX-License-Identifier: GPL-3.0-or-later
"""serve hands valid settings to the node, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.config import Config
from tests.unit.cli.conftest import Run

SEED = [
    "-port=8000",
    "-nodes=http://localhost:8000,http://localhost:8001",
    "-replication=2",
    "-W=2",
    "-R=1",
]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The settings of the nodes that were started."""
    configs: list[Config] = []

    def run_node(config: Config, ignored: dict[str, str], *, secret: str) -> int:
        assert not secret
        assert set(ignored) <= {"QUORATE_SERVICE_HOST"}
        configs.append(config)
        return 0

    monkeypatch.setattr("quorate.app.run", run_node)
    return configs


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_the_seeds_literal_flags_mean_serve_with_or_without_the_command(
    command: list[str], run: Run, started: list[Config]
) -> None:
    assert run(*command, *SEED).code == 0
    assert started == [
        Config(
            port=8000,
            nodes=("http://localhost:8000", "http://localhost:8001"),
            replication=2,
            w=2,
            r=1,
        )
    ]


def test_flags_before_the_command_count_too(run: Run, started: list[Config]) -> None:
    assert run("-port", "8001", "serve", "--allow-flush", "-hb=1s").code == 0
    assert started == [Config(port=8001, allow_flush=True, heartbeat_ms=1000)]


def test_all_layers_reach_the_node(
    run: Run, started: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "quorate.toml"
    file.write_text('cluster = "blue"\nport = 1\nengine = "memory"\n')
    monkeypatch.setenv("QUORATE_CONFIG", str(file))
    monkeypatch.setenv("QUORATE_PORT", "2")
    assert run("serve", "-engine=rocksdb").code == 0
    assert started == [Config(cluster="blue", port=2)]


def test_a_missing_settings_file_starts_nothing(run: Run, started: list[Config]) -> None:
    ran = run("serve", "-config=absent.toml")
    assert (ran.code, started) == (2, [])
    assert ran.err == "quorate: -config absent.toml: No such file or directory\n"
