# SPDX-License-Identifier: GPL-3.0-or-later
"""What `app` decides by itself; nodes as a whole are in `tests/cluster`."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from quorate import app, starting
from quorate.config import Config
from quorate.errors import StorageError
from quorate.loading import load
from quorate.runtime.process import close_in_time
from quorate.runtime.sockets import bind
from quorate.storage.directory import DataDirectory
from quorate.storage.memory import MemoryEngine
from quorate.storage.tuning import OPEN_FILES_MAX


@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]"])
def test_a_node_that_strangers_reach_does_not_start_unless_told_to(
    listen: str, ports: Iterator[int], tmp_path: Path
) -> None:
    port = next(ports)
    given = {"listen": f"{listen}:{port}", "data": str(tmp_path / "data")}
    with pytest.raises(starting.StartError) as caught:
        asyncio.run(app._serve(load(flags=given, environment={}, file=None), ""))
    said = str(caught.value)
    assert said.startswith(f"other machines reach -port {port} of {listen.strip('[]')}, ")
    assert re.findall(r"-(?:secret-file|users|tls-cert|insecure)", said) == [
        "-secret-file",
        "-users",
        "-tls-cert",
        "-insecure",
    ]
    assert "\n" not in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("host", "given", "may"),
    [
        ("0.0.0.0", {}, False),
        ("0.0.0.0", {"insecure": "true"}, True),
        ("0.0.0.0", {"tls-cert": "c", "tls-key": "k"}, True),
        ("0.0.0.0", {"users": "u"}, True),
        ("127.0.0.1", {}, True),
        ("127.0.0.2", {}, True),
        ("::1", {}, True),
    ],
)
def test_who_may_come_is_judged_by_the_addresses_that_are_bound(
    host: str, given: dict[str, str], may: bool, ports: Iterator[int]
) -> None:
    config = load(flags={"port": str(next(ports)), **given}, environment={}, file=None)
    sockets = bind([("127.0.0.1", config.port), (host, next(ports))])
    try:
        with nullcontext() if may else pytest.raises(starting.StartError):
            starting.refuse_strangers(config, sockets, has_secret=False)
        starting.refuse_strangers(config, sockets, has_secret=True)
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize(
    ("given", "has_secret", "what"),
    [
        ({"tls-cert": "c", "tls-key": "k"}, False, "read and change everything"),
        (
            {"tls-cert": "c", "tls-key": "k", "tls-ca": "a", "peer-names": "*.n"},
            False,
            "read and change everything",
        ),
        ({"users": "u"}, False, "speak as a node"),
        ({"users": "u", "tls-cert": "c", "tls-key": "k"}, False, "speak as a node"),
        (
            {"users": "u", "tls-cert": "c", "tls-key": "k", "tls-ca": "a", "peer-names": "*.n"},
            False,
            "",
        ),
        ({"users": "u"}, True, ""),
        ({}, True, ""),
        ({"insecure": "true"}, False, ""),
        ({"insecure": "true", "users": "u"}, False, ""),
    ],
)
def test_what_strangers_may_do_all_the_same_is_told_with_the_cure(
    given: dict[str, str], has_secret: bool, what: str, ports: Iterator[int]
) -> None:
    for host in ("0.0.0.0", "127.0.0.1"):
        config = load(flags={"port": str(next(ports)), **given}, environment={}, file=None)
        (listening,) = bind([(host, config.port)])
        with closing(listening), capture_logs() as told:
            starting.refuse_strangers(config, [listening], has_secret=has_secret)
        if not what or host == "127.0.0.1":
            assert told == []
            continue
        (line,) = told
        assert (line["event"], line["log_level"]) == ("open_to_strangers", "warning")
        assert (line["address"], line["can"]) == (host, what)
        assert "-secret-file" in line["cure"]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [(1 << 20, 10_000), (4096, 4096 - app.FILES_RESERVED), (1024, 512), (512, 128), (256, 64)],
)
def test_clients_leave_the_engine_and_the_links_their_files(
    files: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7. Where even those are too many, clients get a quarter."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert app._connections_max(Config(connections_max=10_000)) == wanted
    assert app.FILES_RESERVED >= OPEN_FILES_MAX + 64 + 128


class Failing(MemoryEngine):
    """An engine that cannot be closed well."""

    def close(self) -> None:
        raise StorageError("Input/output error")


def test_an_engine_that_fails_to_close_is_told_and_hides_no_other_error() -> None:
    assert asyncio.run(close_in_time(MemoryEngine().close, seconds=10))
    with capture_logs() as lines:
        assert not asyncio.run(close_in_time(Failing().close, seconds=10))
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("close_failed", "Input/output error")
    ]


def test_what_fails_while_starting_is_one_line() -> None:
    with pytest.raises(starting.StartError, match="in use"), starting.starting():
        raise StorageError("in use")


def test_a_data_directory_that_is_a_file_is_one_line_which_names_it_once(tmp_path: Path) -> None:
    data = tmp_path / "file"
    data.write_text("")
    with pytest.raises(starting.StartError) as caught:
        app._open_engine(Config(data=str(data)))
    assert str(caught.value) == f"cannot use -data {data}: Not a directory"


def test_a_data_directory_in_use_is_named_once_with_who_uses_it(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path)
    with pytest.raises(starting.StartError) as caught:
        app._open_engine(Config(data=str(tmp_path)))
    held.release()
    said = f"cannot use -data {tmp_path}: another process uses the data directory"
    assert str(caught.value) == f"{said} (pid={os.getpid()})"


def test_a_data_directory_that_others_may_enter_is_told_with_the_cure(tmp_path: Path) -> None:
    data = tmp_path / "a b"
    data.mkdir()
    data.chmod(0o750)
    with capture_logs() as lines:
        app._open_engine(Config(data=str(data))).close()
        data.chmod(0o700)
        app._open_engine(Config(data=str(data))).close()
    assert [(line["event"], line["mode"], line["cure"]) for line in lines] == [
        ("data_open_to_others", "0750", f"chmod -R go= '{data}'")
    ]


def test_an_open_directory_that_was_moved_aside_makes_room_for_one_of_the_node_alone(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir(0o755)
    app._move_aside(data)
    app._open_engine(Config(data=str(data))).close()
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("listen", "advice"),
    [
        ("192.0.2.1:8000", "no interface of this machine has that address: choose another -listen"),
        ("127.0.0.1:{busy}", "choose another -port"),
    ],
)
def test_who_cannot_listen_is_told_what_to_change(
    listen: str, advice: str, ports: Iterator[int]
) -> None:
    with socket.create_server(("127.0.0.1", next(ports))) as busy:
        address = listen.format(busy=busy.getsockname()[1])
        config = load(flags={"listen": address}, environment={}, file=None)
        with pytest.raises(starting.StartError) as caught:
            asyncio.run(app._serve(config, ""))
    assert str(caught.value).startswith(f"cannot listen on {address}: ")
    assert str(caught.value).endswith(f"; {advice}")


@pytest.mark.parametrize(
    ("source", "package"), [("mdns", "zeroconf"), ("dns:_quorate._tcp.kv", "dnspython")]
)
def test_without_an_extra_that_is_needed_one_line_says_what_to_install(
    source: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "find_spec", lambda _name: None)
    config = load(
        flags={"discover": source, "data": str(tmp_path / "data")}, environment={}, file=None
    )
    with pytest.raises(starting.StartError, match=f"pip install {package}, or"):
        asyncio.run(app._serve(config, ""))


def test_who_asks_where_it_is_asks_those_that_the_dns_has_as_far_as_it_answers_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(name: str, _: object, *, port: int) -> tuple[list[str], None]:
        if name == "gone":
            raise ConnectionError(name)
        if name == "silent":
            await asyncio.Event().wait()
        return [f"http://{name}:{port}"], None

    monkeypatch.setattr(starting, "look_up", look_up)
    monkeypatch.setattr(starting, "LOOK_UP_SECONDS", 0.01)
    names = "mdns,dns:gone,dns:here,http://10.0.0.9:1,dns:silent,dns:behind"
    config = load(flags={"discover": names, "expect": "3"}, environment={}, file=None)
    found = asyncio.run(starting._named(config, "http://127.0.0.1:1"))
    assert found == [f"http://here:{config.port}"]
