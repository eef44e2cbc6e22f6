# SPDX-License-Identifier: GPL-3.0-or-later
"""How a new node comes into a cluster that is there: by a join token it gets the secret, and with
that, or where there is none without it, it asks to be a member.

    token -> (TLS, the node's certificate is of the token's authority) -> secret, kept on disk
    secret -> POST /join of this node's URL, until a node says that it is a member

All of it blocks, and is for a thread or for before anything else runs. What is kept in the data
directory has mode 0600: `secret`, and until that is there `claim`, by which the cluster knows this
node again if its first answer was lost.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from quorate.core.values.messages import FEATURE_LEVEL, PROTOCOL_MAX, PROTOCOL_MIN
from quorate.errors import is_cut_off
from quorate.files import read_file
from quorate.notation import show_text, split_url
from quorate.security.certificates import JOIN_NAME, PEER_NAME
from quorate.security.contexts import holder_context, newcomer_context
from quorate.security.joining import CLAIM_BYTES, JoinToken, JoinTokenError, new_claim, read_token
from quorate.security.secret import (
    SecretError,
    load_secrets,
    read_private,
    read_secret,
    show_secret,
)

SECRET_FILE: Final = "secret"
CLAIM_FILE: Final = "claim"
ANSWER_S: Final = 15.0
"""How long a node may take to answer."""
AGAIN_S: Final = 1.0
AGAIN_S_MAX: Final = 30.0
"""Before it is announced again. Each time is an act of an admin, with a line in the other's log: so
a node that was heard, and whose links are refused, comes seldom."""
_NOBODY: Final = "nobody listens there: start the node, or give -join the address that it has"
_NO_TLS: Final = (
    "it ends the TLS handshake: the node there has no secret, or it is none: give -join a node that"
    " was started with the cluster's secret"
)
_ANSWER_BYTES_MAX: Final = 64 << 10
_CLAIM_FILE_BYTES_MAX: Final = 1024
_SHOWN_MAX: Final = 300
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError)
_NO_ANSWER: Final = (OSError, http.client.HTTPException, *_UNREADABLE)

_log = structlog.get_logger()


class EntryError(Exception):
    """The node cannot be let in: one line that says why and what to do."""


class _Given(msgspec.Struct):
    cluster: str
    secret: list[str]


class _Joined(msgspec.Struct):
    member: bool


class _Problem(msgspec.Struct):
    detail: str


class Announced(NamedTuple):
    """What came of an announcement."""

    why: str
    """Why this node is no member yet; empty once it is one."""
    is_heard: bool = False
    """Whether a node took it, and there is only its link to wait for."""


class _Answer(NamedTuple):
    status: int
    body: bytes


def kept_secret(directory: Path) -> Path | None:
    """Where the secret is kept that a token gave; None if none is."""
    path = directory / SECRET_FILE
    return path if path.exists() else None


def enter(urls: Sequence[str], token_file: Path, directory: Path, *, cluster: str) -> Path:
    """Get the secret for a token, and keep it: where that is. EntryError."""
    try:
        token = read_token(read_private(token_file))
    except (JoinTokenError, SecretError) as error:
        raise EntryError(f"-token-file {token_file}: {error}") from None
    claim = _claim(directory)
    faults = []
    for url in urls:
        try:
            entry = _ask_for_secret(url, token, claim, cluster=cluster)
        except _NO_ANSWER as error:
            faults.append(f"{url}: {_words(error)}")
            continue
        if entry.cluster != cluster:
            raise EntryError(
                f"the cluster is called {_shown(entry.cluster)}: give that as -cluster"
            )
        return _keep(directory, entry.secret)
    raise EntryError(f"no node of -join could be asked for the secret: {'; '.join(faults)}")


def carry(before: Path, directory: Path) -> None:
    """Bring the kept secret along into a directory that takes the place of another."""
    path = kept_secret(before)
    if path is not None:
        directory.mkdir(0o700, exist_ok=True)
        _write(directory / SECRET_FILE, path.read_text(encoding="ascii"))


def announce(
    urls: Sequence[str], own_url: str, secrets: tuple[bytes, ...], *, cluster: str
) -> Announced:
    """Ask the nodes, one after the other, to make this one a member."""
    faults = []
    for url in urls:
        try:
            context = holder_context(*secrets, cluster=cluster) if secrets else None
            with _connected(url, context, PEER_NAME) as (connection, _):
                answer = _post(connection, "/join", own_url.encode())
            if answer.status == http.client.OK:
                joined = msgspec.json.decode(answer.body, type=_Joined)
                why = "" if joined.member else f"{url} has no link to this node yet"
                return Announced(why, is_heard=True)
            faults.append(f"{url}: {_detail(answer)}")
        except _NO_ANSWER as error:
            faults.append(f"{url}: {_words(error)}")
    return Announced("; ".join(faults))


def keep_announcing(
    urls: Sequence[str],
    own_url: str,
    secrets: Callable[[], tuple[bytes, ...]],
    *,
    cluster: str,
    stopped: threading.Event,
) -> None:
    """`announce` until this node is a member, or is stopped: each second, and ever more seldom
    while it is heard. For a thread of its own: nothing that stops the node waits for another node's
    answer."""
    said, again_s = "", AGAIN_S / 2
    while not stopped.is_set():
        is_heard = False
        try:
            why, is_heard = announce(urls, own_url, secrets(), cluster=cluster)
        except Exception as error:
            why = f"internal fault: {error!r}"
            if why != said:
                fault = {"reason": repr(error), "exc_info": error}
                _log.error("background_failed", work="joining", **fault)
        else:
            if not why:
                _log.info("joined", by=list(urls))
                return
            if why != said:
                _log.warning("join_waits", reason=why)
        said = why
        again_s = min(again_s * 2, AGAIN_S_MAX) if is_heard else AGAIN_S
        stopped.wait(again_s)


def _ask_for_secret(url: str, token: JoinToken, claim: bytes, *, cluster: str) -> _Given:
    """OSError, HTTPException, MsgspecError if it cannot be asked; EntryError if it is refused."""
    # What this node will say when it greets: who cannot be of the cluster uses no token up.
    node = {
        "cluster": cluster,
        "protocol_min": PROTOCOL_MIN,
        "protocol_max": PROTOCOL_MAX,
        "level": FEATURE_LEVEL,
    }
    with _connected(url, newcomer_context(), JOIN_NAME) as (connection, channel):
        shown = channel.getpeercert(binary_form=True) if channel is not None else None
        if shown is None or not token.has_issued(shown):
            raise EntryError(
                f"{url} is not of the cluster that made the join token: nothing was told to it"
            )
        body = msgspec.json.encode({"token": token.text(), "claim": claim.hex(), "node": node})
        answer = _post(connection, "/join/secret", body)
    if answer.status == http.client.OK:
        return msgspec.json.decode(answer.body, type=_Given)
    if answer.status >= http.client.INTERNAL_SERVER_ERROR:
        # It may be another's to answer.
        raise OSError(_detail(answer))
    raise EntryError(f"{url} does not let this node in: {_detail(answer)}")


@contextlib.contextmanager
def _connected(
    url: str, context: ssl.SSLContext | None, server_name: str
) -> Iterator[tuple[http.client.HTTPConnection, ssl.SSLSocket | None]]:
    host, port = split_url(url)
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(socket.create_connection((host, port), timeout=ANSWER_S))
        except ConnectionRefusedError:
            raise ConnectionRefusedError(_NOBODY) from None
        channel = None
        if context is not None:
            channel = stack.enter_context(_shaken(raw, context, server_name))
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
        connection.sock = channel or raw
        yield connection, channel


def _shaken(raw: socket.socket, context: ssl.SSLContext, server_name: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(raw, server_hostname=server_name)
    except (ssl.SSLError, ConnectionResetError) as error:
        if isinstance(error, ssl.SSLError) and not is_cut_off(error):
            raise
        raise ConnectionResetError(_NO_TLS) from None


def _post(connection: http.client.HTTPConnection, path: str, body: bytes) -> _Answer:
    connection.request("POST", path, body, {"Connection": "close"})
    response = connection.getresponse()
    return _Answer(response.status, response.read(_ANSWER_BYTES_MAX))


def _detail(answer: _Answer) -> str:
    try:
        return _shown(msgspec.json.decode(answer.body, type=_Problem).detail)
    except _UNREADABLE:
        return f"status {answer.status}"


def _words(error: Exception) -> str:
    """Why there is no answer, without a number of the operating system."""
    told = error.strerror if isinstance(error, OSError) else ""
    return _shown(told or str(error) or type(error).__name__)


def _shown(text: str) -> str:
    """Text from elsewhere, on one line that is not too long."""
    return show_text(text.strip()[:_SHOWN_MAX])


def _claim(directory: Path) -> bytes:
    """What this node is known again by. It is on disk before anybody hears of it."""
    path = directory / CLAIM_FILE
    try:
        text, _ = read_file(path, bytes_max=_CLAIM_FILE_BYTES_MAX)
    except FileNotFoundError:
        claim = new_claim()
        try:
            _write(path, claim.hex())
        except OSError as error:
            raise EntryError(f"{path} cannot be written: {error.strerror}") from None
        return claim
    except OSError as error:
        raise EntryError(f"{path} cannot be read: {error.strerror}") from None
    try:
        claim = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        claim = b""
    if len(claim) != CLAIM_BYTES:
        raise EntryError(
            f"{path} is damaged: remove it, and if the token is refused then as used up, make"
            " another (quorate token new)"
        )
    return claim


def _keep(directory: Path, texts: list[str]) -> Path:
    path = directory / SECRET_FILE
    try:
        lines = [show_secret(read_secret(each)) for each in texts]
        _write(path, "".join([f"{line}\n" for line in lines]))
        load_secrets(path)
    except SecretError as error:
        raise EntryError(f"the node of -join gave no secret: {error}") from None
    except OSError as error:
        raise EntryError(f"{path} cannot be written: {error.strerror}") from None
    (directory / CLAIM_FILE).unlink(missing_ok=True)
    return path


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it is there whole, or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
