# SPDX-License-Identifier: GPL-3.0-or-later
"""The peers' Debian packages: installed without their services being started, now or at boot.

python -m bench.peers.debian installs what is missing. It needs root, and apt.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PACKAGES: Final = {
    "redis-server": "redis-server",
    "etcd-server": "etcd",
    "postgresql": "postgresql",
}
"""Package, and the service that it would start."""
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """Packages that are not installed."""
    return [name for name in PACKAGES if not _is_installed(name)]


def version(package: str) -> str:
    """Of an installed package; empty if it is not."""
    if shutil.which("dpkg-query") is None:
        return ""
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", package]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return text.removeprefix("ii ") if text.startswith("ii ") else ""


def _is_installed(package: str) -> bool:
    return bool(version(package))


def install(packages: list[str]) -> None:
    """Install them; CalledProcessError if apt cannot."""
    apt = ["apt-get", "--quiet", "--yes", "--no-install-recommends"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _nothing_started():
        subprocess.run([*apt, "update"], check=True, env=environment)
        subprocess.run([*apt, "install", *packages], check=True, env=environment)
    if shutil.which("systemctl"):
        for package in packages:
            # Without systemd as init this says so and changes nothing that would be started.
            subprocess.run(["systemctl", "disable", PACKAGES[package]], capture_output=True)


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Packages ask policy-rc.d before they start a service; 101 forbids it."""
    if _POLICY.exists():
        kept = _POLICY.rename(_POLICY.with_name("policy-rc.d.before-benchmarks"))
    else:
        kept = None
    try:
        _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()
        if kept is not None:
            kept.rename(_POLICY)


def main() -> int:
    """Install what is missing, or say what to do."""
    wanted = missing()
    if not wanted:
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        told = f"apt-get install --no-install-recommends {' '.join(wanted)}"
        print(f"Without these, their rows are left out; as root: {told}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Unwind: a policy that stayed behind would keep every service of the machine from starting.
        signal.signal(number, lambda *_: sys.exit(1))
    install(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
