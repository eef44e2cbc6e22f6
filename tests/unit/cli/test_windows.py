# SPDX-License-Identifier: GPL-3.0-or-later
"""The client and the commands that ask a cluster, where POSIX is missing, as on Windows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.http_served import Served

WITHOUT_POSIX: Final = """
import os, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "uvloop"):
    sys.modules[name] = None
for name in (
    "O_CLOEXEC", "O_DIRECTORY", "O_NONBLOCK", "fchmod", "fchown", "fork", "geteuid", "getuid",
    "killpg", "pread", "pwrite", "sched_getaffinity", "setsid", "statvfs",
):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
"""
"""What Windows does not have, of what a node or a test of it uses."""
COMMAND: Final = "from quorate.cli import main\nsys.exit(main(sys.argv[1:]))"


def run(*arguments: str, code: str = COMMAND) -> subprocess.CompletedProcess[str]:
    own = {name: text for name, text in os.environ.items() if not name.startswith("QUORATE_")}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + code, *arguments],
        capture_output=True,
        text=True,
        env=own,
        timeout=60,
        check=False,
    )


def said(*arguments: str) -> str:
    """What a command prints. AssertionError if it does not end well."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_the_client_is_imported() -> None:
    done = run(
        code="import quorate, quorate.client\nquorate.client.Client, quorate.client.AsyncClient"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_says_its_version_and_helps() -> None:
    assert said("version").startswith("quorate ")
    assert "Exit codes:" in said("--help")
    assert "--target" in said("help", "status")


def test_commands_that_ask_a_cluster_ask_it(served: Served) -> None:
    target = f"--target=localhost:{served.port}"
    assert said("put", "a", "1", target) == "ok\n"
    assert said("get", "a", target) == "1"
    assert said("keys", target) == "a\n"
    assert len(said("nodes", target).splitlines()) == 4


def test_secrets_and_users_are_made_and_read_whatever_their_mode_says(tmp_path: Path) -> None:
    """Python says 0666 of most files there."""
    secret, users = tmp_path / "secret", tmp_path / "users.toml"
    assert said("secret", "new", str(secret)) == ""
    said("user", "add", str(users), "ann", "--roles=read", "--no-password")
    for path in (secret, users):
        path.chmod(0o666)
    assert "ann" in said("user", "list", str(users))
    said("user", "check", str(users))
    read = "from pathlib import Path\nfrom quorate.security.secret import load_secrets\n"
    done = run(str(secret), code=f"{read}print(len(load_secrets(Path(sys.argv[1]))))")
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    "line", [["serve"], ["-port=8000"], ["dev"], ["bench"], ["backup", "file"]], ids=" ".join
)
def test_what_needs_more_says_so_in_a_line(line: list[str]) -> None:
    done = run(*line)
    assert (done.returncode, done.stdout) == (2, "")
    (told,) = done.stderr.splitlines()
    assert told.endswith("it needs Linux or macOS, as every node does; on Windows: WSL")
