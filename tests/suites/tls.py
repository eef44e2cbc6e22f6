# SPDX-License-Identifier: GPL-3.0-or-later
"""testssl.sh (Debian: testssl.sh) on the port of a node that speaks TLS alone: some minutes."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.cluster.processes import wait_until
from tests.suites import protocol

FINE: Final = ("OK", "INFO")
TOLD: Final = {
    "cert_revocation": "the certificate is of an authority of this run, which revokes nothing",
    "HSTS": "for browsers, which a node serves no pages",
}
"""What it finds that is not fine, and why it stays so."""
CHECKED: Final = frozenset(
    {"SSLv3", "TLS1_3", "cipherlist_NULL", "heartbleed", "secure_client_renego", "RC4"}
)
"""Some of what it has to have looked at."""


def run(build: Path) -> bool:
    """Whether all that it finds is fine, but for what is known; prints what is not."""
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        print("tls: skipped: testssl is not installed (Debian: testssl.sh)", flush=True)
        return True
    build.mkdir(parents=True, exist_ok=True)
    found = build / "tls.json"
    found.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        node, authority = protocol.guarded(Path(directory))
        try:
            node.start()
            wait_until(lambda: protocol.is_ready(node, authority), within_s=30, what="ready")
            done = subprocess.run(
                [
                    *(program, "--quiet", "--color=0", "--warnings=off", "--nodns=none"),
                    *("--ip=127.0.0.1", f"--add-ca={authority.ca}", f"--jsonfile={found}"),
                    f"localhost:{node.port}",
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=1800,
                check=False,
            )
        finally:
            if node.is_running:
                node.kill()
    (build / "tls.log").write_text(done.stdout + done.stderr)
    told = json.loads(found.read_text())
    wrong = [each for each in told if each["severity"] not in FINE and each["id"] not in TOLD]
    for each in wrong:
        print(f"tls: {each['severity']}: {each['id']}: {each['finding']}", flush=True)
    missed = CHECKED - {each["id"] for each in told}
    if missed:
        print(f"tls: not looked at: {', '.join(sorted(missed))}", flush=True)
    print(f"tls: testssl.sh: {len(told)} findings, {len(wrong)} of them wrong", flush=True)
    return not wrong and not missed
