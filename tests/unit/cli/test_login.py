# SPDX-License-Identifier: GPL-3.0-or-later
"""How commands reach nodes through TLS and log in, and what is said of mistakes."""

from __future__ import annotations

import base64
import getpass
import io
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.cli import login
from quorate.security.certificates import PEER_NAME, authority_of
from quorate.security.contexts import make_trust
from quorate.security.secret import new_secret, show_secret, write_secret
from tests.authority import Authority
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import Request, ScriptedNode, problem, reply, well


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that nodes' certificates are of."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def node(authority: Authority) -> Iterator[ScriptedNode]:
    """A node that speaks TLS."""
    with ScriptedNode(tls=authority.server()) as node:
        yield node


@pytest.fixture
def plain() -> Iterator[ScriptedNode]:
    """A node without TLS."""
    with ScriptedNode() as node:
        yield node


@pytest.fixture
def password(tmp_path: Path) -> str:
    """A file with a password."""
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    return str(path)


def shown(node: ScriptedNode) -> str:
    """What the last request's header `Authorization` holds: `user:password`, or the token."""
    lines = node.requests[-1].head.decode().split("\r\n")
    (line,) = [each for each in lines if each.startswith("Authorization: ")]
    kind, _, text = line.removeprefix("Authorization: ").partition(" ")
    return base64.b64decode(text).decode() if kind == "Basic" else text


# --- who is trusted ----------------------------------------------------------------------------


def test_a_node_is_known_by_the_ca_that_is_given_by_flag_or_variable(
    run: Run, node: ScriptedNode, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("put", "key", "value", "--target", node.url, "--ca", authority.ca).code == 0
    monkeypatch.setenv("QUORATE_CA", authority.ca)
    assert run("get", "key", "--nodes", node.url).out == b"value"
    bare = node.url.removeprefix("https://")
    assert run("get", "key", "--target", bare).out == b"value", "a CA means TLS"


def test_a_ca_that_was_set_for_all_commands_does_not_bar_a_node_without_tls(
    run: Run, plain: ScriptedNode, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUORATE_CA", authority.ca)
    assert run("get", "key", "--target", plain.url).out == b"value"


@pytest.mark.parametrize("flag", ["--ca", "--cert", "--cert-key", "--secret-file"])
def test_a_flag_of_tls_is_never_passed_over(run: Run, plain: ScriptedNode, flag: str) -> None:
    ran = run("get", "key", "--target", plain.url, f"{flag}=file")
    assert (ran.code, ran.err) == (
        2,
        f"quorate: {flag}: {plain.url} is without TLS: write https://\n",
    )
    assert plain.requests == []


def test_a_certificate_is_shown_from_one_file_or_two(
    run: Run, authority: Authority, tmp_path: Path
) -> None:
    chain, key = authority.certificate()
    both = tmp_path / "both"
    both.write_text(Path(chain).read_text() + Path(key).read_text())
    with ScriptedNode(tls=authority.server(clients=authority)) as node:
        given = ("get", "key", "--target", node.url, "--ca", authority.ca)
        assert run(*given, "--cert", chain, "--cert-key", key).out == b"value"
        assert run(*given, "--cert", str(both)).out == b"value"
        ran = run(*given)
        assert ran.code == 2
        assert "it wants a certificate that it knows" in ran.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--ca=absent"], "--ca: absent: No such file or directory"),
        (["--cert=absent"], "--cert: absent: No such file or directory"),
        (["--cert-key=absent"], "--cert-key: it is the key of --cert: give that too"),
        (["--secret-file=absent"], "--secret-file: it cannot be read: No such file or directory"),
        (["--secret-file=a", "--ca=b"], "--ca: by --secret-file every node is known: leave"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_flag(
    run: Run, flags: list[str], said: str
) -> None:
    ran = run("get", "key", *flags)
    assert ran.code == 2
    assert ran.err.startswith(f"quorate: {said}")
    assert ran.err.count("\n") == 1


# --- by the cluster's secret -------------------------------------------------------------------


@pytest.fixture(scope="module")
def secret() -> bytes:
    """A cluster's."""
    return new_secret()


@pytest.fixture
def trusted(secret: bytes, tmp_path: Path) -> Iterator[ScriptedNode]:
    """A node of the cluster of that secret, which lets nobody else in."""
    authority = authority_of(secret, cluster="quorate")
    minted = authority.mint_node(7)
    file = tmp_path / "node"
    file.write_bytes(minted.certificate + minted.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.load_verify_locations(cadata=authority.pem())
    context.verify_mode = ssl.CERT_REQUIRED
    with ScriptedNode(tls=context) as node:
        yield node


def test_who_has_the_secret_knows_the_nodes_and_is_let_in(
    run: Run, trusted: ScriptedNode, secret: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    write_secret(file, secret)
    assert run("get", "key", "--target", trusted.url, "--secret-file", str(file)).out == b"value"
    monkeypatch.setenv("QUORATE_TARGET", trusted.url.removeprefix("https://"))
    monkeypatch.setenv("QUORATE_SECRET_FILE", str(file))
    assert run("get", "key").out == b"value", "a secret means TLS"
    monkeypatch.delenv("QUORATE_SECRET_FILE")
    monkeypatch.setenv("QUORATE_SECRET", show_secret(secret))
    assert run("get", "key").out == b"value"
    assert PEER_NAME not in run("get", "key").err


def test_while_the_secret_is_changed_every_node_is_known(run: Run, tmp_path: Path) -> None:
    old, new = new_secret(), new_secret()
    file = tmp_path / "secret"
    write_secret(file, new)
    file.write_text(f"{show_secret(new)}\n{show_secret(old)}\n")
    for secrets in ((old, new), (new, old)):
        trust = make_trust(
            secrets,
            cluster="quorate",
            node_id=7,
            is_for_clients=False,
        )
        with ScriptedNode(tls=trust.server) as node:
            ran = run("get", "key", "--target", node.url, "--secret-file", str(file))
        assert (ran.code, ran.out) == (0, b"value"), ran.err


def test_another_secret_or_cluster_is_refused_and_sends_nothing(
    run: Run, trusted: ScriptedNode, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, flags in ((show_secret(new_secret()), []), (show_secret(secret), ["--cluster=x"])):
        monkeypatch.setenv("QUORATE_SECRET", text)
        ran = run("put", "key", "value", "--target", trusted.url, *flags)
        assert ran.code == 2
        assert "the secret and the name of its cluster by --secret-file and --cluster" in ran.err
        assert "nothing was written" in ran.err
        assert text not in ran.err
    assert trusted.requests == []


def test_a_secret_that_others_can_read_or_with_a_typing_error_is_refused(
    run: Run, secret: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    write_secret(file, secret)
    file.chmod(0o644)
    ran = run("get", "key", "--secret-file", str(file))
    assert (ran.code, "others can read it (mode 0644)" in ran.err) == (2, True)
    monkeypatch.setenv("QUORATE_SECRET", show_secret(secret)[:-1])
    ran = run("get", "key")
    assert ran.code == 2
    assert ran.err.startswith("quorate: QUORATE_SECRET: ")
    assert show_secret(secret)[:-1] not in ran.err


# --- who asks ----------------------------------------------------------------------------------


def test_a_password_comes_from_a_file_or_a_variable(
    run: Run, plain: ScriptedNode, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("get", "key", "--target", plain.url)
    assert run(*given, "--user", "ann", "--password-file", password).code == 0
    assert shown(plain) == "ann:hunter2"
    assert run(*given, "--password-file", password).code == 0
    assert shown(plain) == "default:hunter2"
    monkeypatch.setenv("QUORATE_USER", "bob")
    monkeypatch.setenv("QUORATE_PASSWORD", "other")
    assert run(*given).code == 0
    assert shown(plain) == "bob:other"
    assert run(*given, "--user", "ann", "--password-file", password).code == 0
    assert shown(plain) == "ann:hunter2", "a flag counts for more"


def test_a_token_comes_from_a_file_or_a_variable(
    run: Run, plain: ScriptedNode, password: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("get", "key", "--target", plain.url)
    monkeypatch.setenv("QUORATE_TOKEN", "qt1.abc")
    assert run(*given).code == 0
    assert shown(plain) == "qt1.abc"
    file = tmp_path / "token"
    file.write_text("qt1.def\n")
    assert run(*given, "--token-file", str(file)).code == 0
    assert shown(plain) == "qt1.def"
    assert run(*given, "--password-file", password).code == 0
    assert shown(plain) == "default:hunter2", "a flag counts for more"


def test_on_a_terminal_the_password_is_asked_for_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "typed"

    monkeypatch.setattr(sys, "stdin", Keyboard())
    monkeypatch.setattr(getpass, "getpass", ask)

    def answer(request: Request) -> bytes:
        if request.target.startswith("/nodes"):
            member = (
                f'{{"url": "{asked.url}", "state": "self", "owns": true, "keys": 1, "bytes": 1}}'
            )
            return reply(200, f"[{member}]".encode())
        return well(request)

    with ScriptedNode(answer) as asked:
        run("status", "--target", asked.url, "--user", "ann")
        assert len(asked.requests) > 2
        assert all(b"Authorization: Basic " in each.head for each in asked.requests)
        assert shown(asked) == "ann:typed"
    assert prompts == ["Password of ann: "]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--user=ann"], "--user: no password: give --password-file or QUORATE_PASSWORD"),
        (["--password-file=absent"], "--password-file: absent: No such file or directory"),
        (["--token-file=absent"], "--token-file: absent: No such file or directory"),
        (["--token-file=a", "--user=b"], "--token-file: a token stands for --user and its"),
        (
            ["--user=a:b", "--password-file=PASSWORD"],
            "a user's name is not empty, and has no colon",
        ),
        (["--token-file=BAD"], "the token is none: a token has letters, digits and"),
        (["--token-file=EMPTY"], "--token-file: EMPTY: it is empty"),
        (["--password-file=BINARY"], "--password-file: BINARY: it is no text in UTF-8"),
    ],
)
def test_what_is_no_login_is_one_line_and_2_and_nothing_is_sent(
    run: Run,
    plain: ScriptedNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    flags: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for name, raw in (("PASSWORD", b"x"), ("BAD", b"a b"), ("EMPTY", b"\n"), ("BINARY", b"\xff")):
        Path(name).write_bytes(raw)
    ran = run("get", "key", "--target", plain.url, *flags)
    assert ran.code == 2
    assert ran.err.startswith(f"quorate: {said}")
    assert ran.err.count("\n") == 1
    assert plain.connections == 0


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "unauthenticated", "who asks is said by --secret-file (of"),
        (403, "forbidden", "no; nothing was"),
    ],
)
def test_who_is_refused_hears_why_in_one_line(run: Run, status: int, code: str, said: str) -> None:
    with ScriptedNode(lambda _: problem(status, code, outcome="not_applied")) as node:
        ran = run("put", "key", "value", "--target", node.url)
    assert ran.code == 3
    assert said in ran.err
    assert ran.err.count("\n") == 1


# --- every command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        ["keys"],
        ["nodes"],
        ["status"],
        ["check"],
        ["topology"],
        ["upgrade"],
        ["plan"],
        ["ring", "key"],
        ["explain", "key"],
        ["delete", "key"],
        ["join", "http://a:1"],
        ["leave", "http://a:1"],
        ["forget", "http://a:1"],
        ["backup", "archive"],
    ],
    ids=lambda line: line[0],
)
def test_every_command_reaches_nodes_through_tls_and_logs_in(
    run: Run,
    authority: Authority,
    password: str,
    *,
    line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal = problem(403, "forbidden", outcome="not_applied")
    with ScriptedNode(lambda _: refusal, tls=authority.server()) as node:
        flags = ["--target", node.url, "--ca", authority.ca, "--password-file", password]
        ran = run(*line, *flags)
        assert ran.code == 3
        assert ran.err.startswith("quorate: no")
        assert shown(node) == "default:hunter2"


def test_a_member_is_asked_as_the_target_was(run: Run, authority: Authority, password: str) -> None:
    """Members' URLs begin with http, whether or not there is TLS."""

    def answer(request: Request) -> bytes:
        if request.target.startswith("/nodes"):
            url = asked.url.replace("https", "http")
            member = f'{{"url": "{url}", "state": "self", "owns": true, "keys": 1, "bytes": 1}}'
            return reply(200, f"[{member}]".encode())
        return well(request)

    with ScriptedNode(answer, tls=authority.server()) as asked:
        flags = ["--target", asked.url, "--ca", authority.ca, "--password-file", password]
        ran = run("status", *flags)
        assert b"\tready\t" in ran.out
        assert any(each.target == "/readyz" for each in asked.requests)


def test_variables_of_commands_are_no_settings_of_a_node() -> None:
    from quorate.loading import ignored

    named = dict.fromkeys(
        [*login._VARIABLES.values(), login._PASSWORD, login._TOKEN, login._SECRET], "x"
    )
    assert ignored(named) == {}
