# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes that come into a cluster: by a token they get the secret, and are members."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.runtime.entering import _ask_for_secret
from quorate.security.joining import new_claim, new_token, read_token
from quorate.security.secret import load_secrets, new_secret, write_secret
from tests.cluster.namespaces import PORT, NoNamespaces, SpacedNode, Switch
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.ports import free_port

QUICK = ("-heartbeat=300ms", "-grow-after=100ms")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a secret, whose members come and stay."""
    directory = tmp_path_factory.mktemp("house")
    write_secret(directory / "secret", new_secret())
    with Cluster(directory, f"-secret-file={directory / 'secret'}", *QUICK) as cluster:
        yield cluster


def _token(house: Cluster, *flags: str, node: int = 0) -> str:
    made = quorate("token", "new", f"--target={house.urls[node]}", *flags)
    assert made.returncode == 0, made.stderr
    return made.stdout.decode().strip()


def _newcomer(
    tmp_path: Path, house: Cluster, token: str, *flags: str, node: int = 0
) -> NodeProcess:
    port = free_port()
    file = tmp_path / f"{port}.token"
    file.touch(0o600)
    file.write_text(token)
    given = [f"-join={house.urls[node]}", f"-token-file={file}", *QUICK, *flags]
    return NodeProcess(tmp_path, port, given)


def _refusal(node: NodeProcess) -> str:
    """What a node says that does not start: one line."""
    started = quorate("serve", *node.flags)
    assert started.returncode == 2, started.stderr
    last = started.stderr.decode().splitlines()[-1]
    assert last.startswith("quorate: ")
    assert not (node.data / "secret").exists()
    return last


def _log(house: Cluster) -> str:
    return "".join(node.log.read_text() for node in house.nodes[:3])


def test_a_new_node_gets_the_secret_for_a_token_and_becomes_an_owner(
    house: Cluster, tmp_path: Path
) -> None:
    token = _token(house, "--ttl=1h")
    node = _newcomer(tmp_path, house, token)
    node.start()
    try:
        wait_until(node.is_ready, within_s=20, what="ready")
        wait_until(lambda: node.member(node.url)["owns"] is True, within_s=30, what="an owner")
        kept = node.data / "secret"
        assert load_secrets(kept) == load_secrets(house.nodes[0].data.parent / "secret")
        assert kept.stat().st_mode & 0o777 == 0o600
        assert fetch(f"{node.url}/kv?key=k", method="PUT", body=b"v") == (200, b"ok")
        assert node.stop() == 0
        # The token is used up by now: what it gave is on the disk.
        node.start()
        wait_until(node.is_ready, within_s=20, what="ready again")
        assert fetch(f"{node.url}/kv?key=k") == (200, b"v")
        left = quorate("leave", node.url, f"--target={house.urls[0]}")
        assert left.returncode == 0, left.stderr
        wait_until(
            lambda: node.url not in _members(house), within_s=60, what="gave its copies back"
        )
    finally:
        if node.is_running:
            node.kill()
    assert '"token_used"' in _log(house)
    assert token not in _log(house)


def _members(house: Cluster) -> list[str]:
    told = json.loads(fetch(f"{house.urls[0]}/topology")[1])
    return [each["url"] for each in told["members"]]


def test_a_token_for_one_lets_in_one_whichever_node_is_asked(
    house: Cluster, tmp_path: Path
) -> None:
    token = _token(house, "--ttl=1h")
    nodes = [_newcomer(tmp_path, house, token, node=index) for index in (0, 1)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "quorate", "serve", *node.flags], stderr=subprocess.PIPE
        )
        for node in nodes
    ]
    try:
        wait_until(
            lambda: (
                any((node.data / "secret").exists() for node in nodes)
                and any(each.poll() is not None for each in started)
            ),
            within_s=30,
            what="one is in, and one is not",
        )
        ended = [each for each in started if each.poll() is not None]
        assert len(ended) == 1
        assert ended[0].returncode == 2
        assert ended[0].stderr is not None
        assert b"used up" in ended[0].stderr.read()
    finally:
        for each in started:
            each.kill()
            each.wait()
            assert each.stderr is not None
            each.stderr.close()
    assert sum((node.data / "secret").exists() for node in nodes) == 1


def test_who_has_another_name_for_the_cluster_is_told_and_uses_up_no_token(
    house: Cluster, tmp_path: Path
) -> None:
    token = _token(house, "--ttl=1h")
    mistaken = _newcomer(tmp_path, house, token, "-cluster=another")
    assert "is called quorate: give that as -cluster" in _refusal(mistaken)
    again = _newcomer(tmp_path, house, token)
    again.start()
    try:
        wait_until((again.data / "secret").exists, within_s=20, what="let in")
    finally:
        again.kill()


def test_who_was_let_in_and_did_not_hear_of_it_may_ask_again(
    house: Cluster, tmp_path: Path
) -> None:
    """With what only it has: a copy of the token is not enough."""
    token = _token(house, "--ttl=1h")
    first = _newcomer(tmp_path, house, token)
    claim_of_first = new_claim()
    first.data.mkdir(mode=0o700)
    (first.data / "claim").write_text(claim_of_first.hex())
    _ask_for_secret(house.urls[0], read_token(token), claim_of_first, cluster="quorate")
    assert "used up" in _refusal(_newcomer(tmp_path, house, token))
    first.start()
    try:
        wait_until((first.data / "secret").exists, within_s=20, what="let in")
        claim = first.data / "claim"
        wait_until(lambda: not claim.exists(), within_s=20, what="the claim has done its work")
    finally:
        first.kill()


def test_tokens_that_are_not_good_are_refused_with_the_reason(
    house: Cluster, tmp_path: Path
) -> None:
    good = read_token(_token(house, "--ttl=1h"))
    (secret,) = load_secrets(house.nodes[0].data.parent / "secret")
    late = new_token(
        secret, cluster_name="quorate", cluster=good.cluster, expires_s=1, uses=1
    ).text()
    elsewhere = new_token(
        secret, cluster_name="quorate", cluster=b"o" * 16, expires_s=good.expires_s, uses=1
    ).text()
    stranger = new_token(
        new_secret(),
        cluster_name="quorate",
        cluster=good.cluster,
        expires_s=good.expires_s,
        uses=1,
    ).text()
    told = {
        late: "has expired",
        elsewhere: "of another cluster",
        good._replace(uses=5).text(): "was altered",
        good._replace(expires_s=good.expires_s + 1).text(): "was altered",
        good.text()[:-1]: "copy the whole line",
        good.text()[:-1] + "!": "copy it anew",
        "": "begins with qj1.",
        # Whom it would talk to is not who made it, so it says nothing.
        stranger: "nothing was told to it",
    }
    for token, reason in told.items():
        assert reason in _refusal(_newcomer(tmp_path, house, token)), reason
    assert '"token_refused"' in _log(house)
    assert good.text() not in _log(house)


def test_a_token_is_told_to_nobody_who_speaks_no_tls(house: Cluster, tmp_path: Path) -> None:
    """And a node takes none from who does not."""
    node = _newcomer(tmp_path, house, _token(house, "--ttl=1h"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        node.flags[2] = f"-join=http://127.0.0.1:{port}"
        started = subprocess.Popen(
            [sys.executable, "-m", "quorate", "serve", *node.flags], stderr=subprocess.PIPE
        )
        try:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(10)
                heard = accepted.recv(1 << 16)
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert heard[0] == 0x16
            assert b"qj1." not in heard
            assert started.wait(timeout=30) == 2
        finally:
            started.kill()
            started.wait()
            assert started.stderr is not None
            started.stderr.close()
    body = json.dumps({"token": _token(house, "--ttl=1h"), "claim": "00" * 32}).encode()
    status, answer = fetch(f"{house.urls[0]}/join/secret", method="POST", body=body)
    assert (status, b"inside TLS alone" in answer) == (403, True)


def test_a_token_file_that_others_can_read_is_refused(house: Cluster, tmp_path: Path) -> None:
    node = _newcomer(tmp_path, house, _token(house, "--ttl=1h"))
    next(tmp_path.glob("*.token")).chmod(0o644)
    assert "others can read it" in _refusal(node)


def test_a_node_without_the_secret_is_no_member_whatever_is_announced(
    house: Cluster, tmp_path: Path
) -> None:
    """`POST /join` makes a URL known; who is there has to prove to be of the cluster."""
    stranger = NodeProcess(tmp_path, free_port(), [f"-join={house.urls[0]}", *QUICK])
    stranger.start()
    try:
        asked = quorate("join", stranger.url, f"--target={house.urls[0]}")
        assert asked.returncode == 0, asked.stderr
        wait_until(
            lambda: any(each["url"] == stranger.url and each["refusal"] for each in _nodes(house)),
            within_s=20,
            what="its link is refused",
        )
        assert stranger.url not in _members(house)
        assert not stranger.is_ready()
    finally:
        stranger.kill()


def _nodes(house: Cluster) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(fetch(f"{house.urls[0]}/nodes")[1])
    return found


def test_from_another_machine_a_token_lets_in_and_nothing_else_does(tmp_path: Path) -> None:
    """No node here is told that it may be open: the secret is what keeps strangers out."""
    write_secret(tmp_path / "secret", new_secret())
    try:
        switch = Switch(2).__enter__()
    except NoNamespaces as why:
        pytest.skip(str(why))
    url = f"http://{switch.addresses[0]}:{PORT}"
    founder = SpacedNode(
        tmp_path, switch, 0, [f"-nodes={url}", f"-secret-file={tmp_path / 'secret'}", *QUICK]
    )
    token = tmp_path / "token"
    token.touch(0o600)
    newcomer = SpacedNode(tmp_path, switch, 1, [f"-join={url}", f"-token-file={token}", *QUICK])
    nodes = [founder, newcomer]
    try:
        founder.start()
        wait_until(founder.is_ready, within_s=20, what="ready")
        for path, body in (("/join", b"http://198.18.0.9:8000"), ("/join/token", b'{"ttl":"1h"}')):
            assert fetch(f"{url}{path}", method="POST", body=body)[0] == 401, path
        # From its own machine, by which it knows its operator.
        made = subprocess.run(
            [
                *(*switch.command(0), sys.executable, "-m", "quorate", "token", "new"),
                *("--ttl=1h", f"--target=http://127.0.0.1:{PORT}"),
            ],
            capture_output=True,
            timeout=60,
            check=True,
        )
        token.write_bytes(made.stdout)
        newcomer.start()
        wait_until(newcomer.is_ready, within_s=20, what="ready")
        wait_until(lambda: '"joined"' in newcomer.log.read_text(), within_s=20, what="a member")
    finally:
        for node in nodes:
            if node.is_running:
                node.kill()
        switch.remove()
    assert load_secrets(newcomer.data / "secret") == load_secrets(tmp_path / "secret")


def test_without_a_secret_a_node_joins_by_its_flag_alone(tmp_path: Path) -> None:
    with Cluster(tmp_path, *QUICK) as cluster:
        port = free_port()
        node = NodeProcess(tmp_path, port, [f"-join={cluster.urls[1]}", *QUICK])
        node.start()
        cluster.nodes.append(node)
        wait_until(node.is_ready, within_s=20, what="ready")
        wait_until(lambda: node.member(node.url)["owns"] is True, within_s=30, what="an owner")
        wait_until(lambda: '"joined"' in node.log.read_text(), within_s=20, what="it says so")
        made = quorate("token", "new", "--ttl=1h", f"--target={cluster.urls[0]}")
        assert (made.returncode, b"without a secret" in made.stderr) == (3, True)


def test_a_data_directory_that_is_moved_aside_leaves_the_secret_behind(tmp_path: Path) -> None:
    from quorate import app

    data = tmp_path / "data"
    data.mkdir(0o700)
    write_secret(data / "secret", secret := new_secret())
    app._move_aside(data)
    assert load_secrets(data / "secret") == (secret,)
    shutil.rmtree(data)
