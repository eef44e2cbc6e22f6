# SPDX-License-Identifier: GPL-3.0-or-later
"""A new node asks for the secret: whom it talks to, what it takes for an answer, what it keeps."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from quorate.core.values.messages import FEATURE_LEVEL, PROTOCOL_MAX, PROTOCOL_MIN
from quorate.runtime import entering
from quorate.runtime.entering import (
    AGAIN_S_MAX,
    CLAIM_FILE,
    Announced,
    EntryError,
    announce,
    carry,
    enter,
    keep_announcing,
    kept_secret,
)
from quorate.security.contexts import make_trust
from quorate.security.joining import JoinToken, new_token
from quorate.security.secret import load_secrets, show_secret, write_secret
from tests.pki import without_place

SECRET, OTHER = b"s" * 32, b"o" * 32
TEXTS = [show_secret(SECRET), show_secret(OTHER)]


def answer(status: str, body: object) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return head.encode() + text


GOOD = answer("200 OK", {"cluster": "house", "secret": TEXTS})


class Node:
    """Shakes hands as a node with this secret does, and answers always the same."""

    def __init__(self, reply: bytes, secret: bytes) -> None:
        self.heard = b""
        self.until = b"}"
        """What a request ends with."""
        self._reply = reply
        trust = make_trust(
            (secret,),
            cluster="house",
            node_id=7,
            is_for_clients=False,
        )
        assert trust.joining is not None
        self._context = trust.joining
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Node:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Who waits for a connection is not woken by a close.
        with suppress(OSError), socket.create_connection(self._listener.getsockname(), timeout=5):
            pass
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        raw, _ = self._listener.accept()
        raw.settimeout(10)
        with suppress(OSError), raw, self._context.wrap_socket(raw, server_side=True) as channel:
            while not self.heard.endswith(self.until):
                data = channel.recv(1 << 16)
                if not data:
                    return
                self.heard += data
            channel.sendall(self._reply)


@contextmanager
def node(reply: bytes = GOOD, *, secret: bytes = SECRET) -> Iterator[Node]:
    with Node(reply, secret) as served:
        yield served


@pytest.fixture
def token(tmp_path: Path) -> JoinToken:
    made = new_token(
        SECRET, cluster_name="house", cluster=b"c" * 16, expires_s=1_900_000_000, uses=1
    )
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(made.text())
    return made


def entered(urls: list[str], tmp_path: Path, *, cluster: str = "house") -> Path:
    return enter(urls, tmp_path / "token", tmp_path, cluster=cluster)


def test_what_a_token_gives_is_kept_for_the_node_alone(token: JoinToken, tmp_path: Path) -> None:
    """Two secrets, while the first one takes the place of the second."""
    with node() as asked:
        path = entered([asked.url], tmp_path)
    assert load_secrets(path) == (SECRET, OTHER)
    assert path == kept_secret(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / CLAIM_FILE).exists()
    shown = json.loads(asked.heard.partition(b"\r\n\r\n")[2])
    assert shown["token"] == token.text()
    assert len(shown["claim"]) == 64
    assert shown["node"] == {
        "cluster": "house",
        "protocol_min": PROTOCOL_MIN,
        "protocol_max": PROTOCOL_MAX,
        "level": FEATURE_LEVEL,
    }


def test_nothing_is_said_to_a_node_of_another_cluster(token: JoinToken, tmp_path: Path) -> None:
    del token
    with node(secret=OTHER) as asked, pytest.raises(EntryError, match="nothing was told to it"):
        entered([asked.url], tmp_path)
    assert asked.heard == b""
    assert kept_secret(tmp_path) is None


def test_the_same_claim_is_shown_again(token: JoinToken, tmp_path: Path) -> None:
    """Whatever became of the first answer; it was on disk before it was shown."""
    del token
    claims = []
    for reply in (b"", GOOD):
        with node(reply) as asked, suppress(EntryError):
            entered([asked.url], tmp_path)
        claims.append(json.loads(asked.heard.partition(b"\r\n\r\n")[2])["claim"])
    assert claims[0] == claims[1]
    assert kept_secret(tmp_path) is not None


@pytest.mark.parametrize("text", ["", "zz", "00" * 31, "00" * 33, "00" * 2000, "é"])
def test_a_damaged_claim_is_told_in_one_line_before_anybody_is_asked(
    text: str, token: JoinToken, tmp_path: Path
) -> None:
    del token
    (tmp_path / CLAIM_FILE).write_text(text)
    with pytest.raises(EntryError) as caught:
        entered(["http://127.0.0.1:9"], tmp_path)
    assert str(tmp_path / CLAIM_FILE) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / CLAIM_FILE).read_text() == text


@pytest.mark.parametrize("name", [CLAIM_FILE, "token"])
def test_a_pipe_is_no_claim_and_no_token_and_nobody_waits_for_it(
    name: str, token: JoinToken, tmp_path: Path
) -> None:
    del token
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name, 0o600)
    with pytest.raises(EntryError, match=f"{name}.* cannot be read: it is no file"):
        entered(["http://127.0.0.1:9"], tmp_path)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (b"", "no node of -join could be asked"),
        (b"nonsense\r\n\r\n", "no node of -join could be asked"),
        (answer("200 OK", b"nonsense"), "no node of -join could be asked"),
        (answer("200 OK", b'{"cluster": "\xff"}'), "no node of -join could be asked"),
        (answer("200 OK", {"cluster": "house"}), "no node of -join could be asked"),
        (answer("200 OK", {"cluster": "house", "secret": []}), "gave no secret"),
        (answer("200 OK", {"cluster": "house", "secret": ["qs1.x"]}), "gave no secret"),
        (
            answer("200 OK", {"cluster": "hut", "secret": TEXTS}),
            "is called hut: give that as -cluster",
        ),
        (answer("503 No", {"detail": "too few voters"}), "too few voters"),
        (answer("401 No", {"detail": "used up"}), "does not let this node in: used up"),
        (answer("403 No", {"detail": "\x1b[2J\n" + 999 * "x"}), r"in: \x1b[2J\x0ax"),
        (answer("401 No", b"?"), "does not let this node in: status 401"),
        (answer("401 No", b'{"detail": "\xff"}'), "does not let this node in: status 401"),
    ],
)
def test_an_answer_that_gives_no_secret_is_told_in_one_line(
    reply: bytes, fault: str, token: JoinToken, tmp_path: Path
) -> None:
    del token
    with node(reply) as asked, pytest.raises(EntryError) as caught:
        entered([asked.url], tmp_path)
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_another_node_is_asked_where_one_cannot_answer(token: JoinToken, tmp_path: Path) -> None:
    del token
    with node(answer("503 No", {"detail": "no"})) as one, node() as other:
        path = entered(["http://127.0.0.1:9", one.url, other.url], tmp_path)
    assert load_secrets(path) == (SECRET, OTHER)


@contextmanager
def closing() -> Iterator[str]:
    """The URL of who ends the first connection once something came, as a node without TLS does."""

    def serve() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def test_a_node_without_a_secret_is_called_that(token: JoinToken, tmp_path: Path) -> None:
    del token
    with closing() as url, pytest.raises(EntryError) as caught:
        entered([url], tmp_path)
    assert f"{url}: it ends the TLS handshake: the node there has no secret" in str(caught.value)
    assert "SSL:" not in str(caught.value)
    with closing() as url:
        told = announce([url], "http://127.0.0.1:2", (SECRET,), cluster="house")
    assert "the node there has no secret" in told.why


def test_where_nobody_listens_it_is_said_what_to_do(token: JoinToken, tmp_path: Path) -> None:
    del token
    with pytest.raises(EntryError, match=r":9: nobody listens there: start the node") as caught:
        entered(["http://127.0.0.1:9"], tmp_path)
    assert "Errno" not in str(caught.value)
    told = announce(["http://127.0.0.1:9"], "http://127.0.0.1:2", (), cluster="house")
    assert told == Announced(f"http://127.0.0.1:9: {entering._NOBODY}")


def test_the_secret_goes_along_into_a_new_directory(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    carry(before, after)
    assert not after.exists()
    write_secret(before / "secret", SECRET)
    carry(before, after)
    assert load_secrets(after / "secret") == (SECRET,)
    assert after.stat().st_mode & 0o777 == 0o700


def test_while_the_secret_is_changed_any_node_is_asked_to_make_this_one_a_member() -> None:
    reply = answer("200 OK", {"member": True})
    for shown in (SECRET, OTHER):
        with node(reply, secret=shown) as served:
            served.until = b"http://127.0.0.1:8009"
            secrets = (SECRET, OTHER)
            told = announce([served.url], "http://127.0.0.1:8009", secrets, cluster="house")
            assert told == Announced("", is_heard=True)


def test_without_a_place_for_files_it_is_said_why_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_place(monkeypatch, tmp_path)
    told = announce(["http://127.0.0.1:1"], "http://127.0.0.1:2", (SECRET,), cluster="house")
    assert "No such file" in told.why


def test_what_nobody_foresaw_is_told_once_and_joining_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan: list[str | Exception] = [ZeroDivisionError(), ZeroDivisionError(), "not yet", ""]

    def announced(*_: object, **_named: object) -> Announced:
        step = plan.pop(0)
        if isinstance(step, Exception):
            raise step
        return Announced(step)

    monkeypatch.setattr(entering, "announce", announced)
    monkeypatch.setattr(entering, "AGAIN_S", 0.001)
    with capture_logs() as lines:
        keep_announcing(
            ["http://n1:8000"],
            "http://n2:8000",
            tuple,
            cluster="house",
            stopped=threading.Event(),
        )
    events = [line["event"] for line in lines]
    assert events == ["background_failed", "join_waits", "joined"]


class Waits(threading.Event):
    """Notes how long is waited for it, and waits for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return False


def test_who_is_heard_and_has_no_link_announces_itself_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time is a line in the other's log, and links may be refused for days."""
    plan = [*[Announced("no link", is_heard=True)] * 7, Announced("gone"), Announced("gone")]
    plan += [Announced("no link", is_heard=True), Announced("", is_heard=True)]
    waits = Waits()
    monkeypatch.setattr(entering, "announce", lambda *_, **_named: plan.pop(0))
    keep_announcing(["http://n1:8000"], "http://n2:8000", tuple, cluster="house", stopped=waits)
    assert waits.seconds == [1, 2, 4, 8, 16, AGAIN_S_MAX, AGAIN_S_MAX, 1, 1, 2]
