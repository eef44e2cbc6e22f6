# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis' own tests of its protocol against a node that speaks TLS alone, by a user's login.

The source is Debian's (`apt-get source redis`), in `build/suites`; in it three places are changed:
each connection logs in, and `FUNCTION FLUSH`, which is not there, is not asked for. It needs
Debian, tclsh and tcl-tls.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import redis

from quorate.security.users import write_users
from tests.authority import Authority
from tests.cluster.processes import NodeProcess, wait_until
from tests.ports import free_port
from tests.principals import user, users_of

FAILING: Final = 3
"""So many fail: they ask for sets, which are not there."""
VERSION: Final = "7.0.15"
SOURCES: Final = "deb-src http://deb.debian.org/debian bookworm main\n"
LOGIN: Final = """
proc ::redis::log_in {fd} {
    fconfigure $fd -translation binary
    puts -nonewline $fd "AUTH suite suite-pw\\r\\n"
    flush $fd
    if {[gets $fd] ne "+OK\\r"} { error "no login" }
}
"""
CONNECTED: Final = {
    "    fconfigure $fd -translation binary\n    set id": "    ::redis::log_in $fd\n    set id",
    "        fconfigure $::redis::fd($id) -translation binary": (
        "        ::redis::log_in $::redis::fd($id)"
    ),
}
WORDS: Final = (
    *("./runtest", "--host", "localhost", "--tls", "--singledb", "--single", "unit/protocol"),
    # What DEBUG makes the server say, and blocking commands.
    *("--tags", "-needs:debug -regression"),
)


def run(build: Path) -> bool:
    """Whether so many cases fail as should; prints how many passed and failed."""
    with tempfile.TemporaryDirectory() as directory:
        node, authority = guarded(Path(directory))
        try:
            where = unpacked(build, authority)
            node.start()
            wait_until(lambda: is_ready(node, authority), within_s=30, what="ready")
            done = subprocess.run(
                [*WORDS, "--port", str(node.port)],
                cwd=where,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        finally:
            if node.is_running:
                node.kill()
    told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    (build / "protocol.log").write_text(told + done.stderr)
    passed, failed = (len(re.findall(rf"^\[{word}\]: ", told, re.M)) for word in ("ok", "err"))
    print(f"protocol: redis {VERSION}: {passed} passed, {failed} failed", flush=True)
    return passed > 0 and failed == FAILING and "[exception]" not in told


def guarded(directory: Path) -> tuple[NodeProcess, Authority]:
    """A node with one user, for clients inside TLS alone."""
    authority, users = Authority(directory), directory / "users.toml"
    chain, key = authority.files("localhost")
    write_users(users, users_of(user("suite", "read", "write", "admin")))
    flags = [f"-tls-cert={chain}", f"-tls-key={key}", f"-users={users}"]
    node = NodeProcess(directory, free_port(), [*flags, "-engine=memory", "-allow-flush"])
    return node, authority


def is_ready(node: NodeProcess, authority: Authority) -> bool:
    """Whether the user can log in."""
    assert node.is_running, node.log.read_text()[-2000:]
    try:
        with redis.Redis(
            "localhost",
            node.port,
            username="suite",
            password="suite-pw",
            ssl=True,
            ssl_ca_certs=authority.ca,
        ) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def unpack(archive: Path, target: Path) -> None:
    """Lay out what is in it, nothing outside of `target`: Python sees to that from 3.11.4 on."""
    with tarfile.open(archive) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(target)


def unpacked(build: Path, authority: Authority) -> Path:
    """The directory of the sources, laid anew."""
    archives, target = build / "archives", build / "protocol"
    archives.mkdir(parents=True, exist_ok=True)
    archive = archives / f"redis_{VERSION}.orig.tar.gz"
    if not archive.exists():
        download(archives)
    shutil.rmtree(target, ignore_errors=True)
    unpack(archive, target)
    where = target / f"redis-{VERSION}"
    client, server = (where / "tests" / "support" / name for name in ("redis.tcl", "server.tcl"))
    text = client.read_text("utf-8")
    for connected, logged_in in CONNECTED.items():
        assert text.count(connected) == 1
        text = text.replace(connected, logged_in)
    client.write_text(text + LOGIN, "utf-8")
    server.write_text(server.read_text("utf-8").replace("    r function flush\n", ""), "utf-8")
    shown = where / "tests" / "tls"
    shown.mkdir()
    certificate, key = authority.certificate()
    for source, name in (
        (authority.ca, "ca.crt"),
        (certificate, "client.crt"),
        (key, "client.key"),
    ):
        shutil.copy(source, shown / name)
    return where


def download(archives: Path) -> None:
    """Have Debian's archive of the sources. CalledProcessError."""
    lists = archives / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (archives / "sources.list").write_text(SOURCES)
    apt = [
        "apt-get",
        *("-o", f"Dir::Etc::sourcelist={archives / 'sources.list'}"),
        *("-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State::lists={lists}"),
    ]
    for words in (["-qq", "update"], ["-qq", "source", "--download-only", "redis"]):
        subprocess.run([*apt, *words], cwd=archives, check=True)
