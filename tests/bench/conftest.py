# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator, compiled once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench.generator import Report, StoreLoad, compile_generator

Ask = Callable[..., Report]
PATIENCE_SECONDS = 60
_HAS_OPENSSL = ["cc", "-E", "-x", "c", "-o", "/dev/null", "-"]


class Refused(Exception):
    """The generator ended with an error; its message is what it said."""


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("it needs Linux and a C compiler")
    if subprocess.run(_HAS_OPENSSL, input=b"#include <openssl/ssl.h>\n").returncode:
        pytest.skip("it needs OpenSSL's headers")
    return compile_generator(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def ask(generator: str, tmp_path: Path) -> Ask:
    """Asks these ports as a load says, until `seconds` are over or `in_order` keys written."""

    def asked(load: StoreLoad, *ports: int, **until: float) -> Report:
        plan = tmp_path / "plan"
        plan.write_text("\n".join(load.plan(ports, until)))
        done = subprocess.run([generator, str(plan)], capture_output=True, timeout=PATIENCE_SECONDS)
        if done.returncode:
            raise Refused(done.stderr.decode())
        return msgspec.json.decode(done.stdout, type=Report)

    return asked
