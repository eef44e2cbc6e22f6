# SPDX-License-Identifier: GPL-3.0-or-later
"""What importing the client costs others: nothing of the server."""

from __future__ import annotations

import subprocess
import sys

import pytest

import quorate.client

SERVER_PACKAGES = {
    "aiohttp",
    "click",
    "hdrh",
    "msgspec",
    "prometheus_client",
    "rich",
    "rocksdict",
    "structlog",
    "uvloop",
    "xxhash",
}


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after `statement`."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_clients_load_no_package_of_the_server() -> None:
    loaded = loaded_after("from quorate.client import AsyncClient, BatchPut, Client")
    assert "quorate" in loaded
    assert not loaded & SERVER_PACKAGES


def test_the_blocking_client_alone_loads_neither_asyncio_nor_json() -> None:
    assert not loaded_after("from quorate.client import Client") & {"asyncio", "json", "ssl"}


def test_tls_and_logins_load_no_package_of_the_server_either() -> None:
    loaded = loaded_after(
        "from quorate.client import Client; Client('https://a:1', user='u', password='p');"
        "import quorate.client.tls"
    )
    assert "ssl" in loaded
    assert not loaded & (SERVER_PACKAGES | {"cryptography", "asyncio"})


def test_every_public_name_can_be_had_and_no_other() -> None:
    for name in quorate.client.__all__:
        assert getattr(quorate.client, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = quorate.client.Nonsense
