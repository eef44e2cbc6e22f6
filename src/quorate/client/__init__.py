# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk to a cluster from Python, over HTTP and without the server's packages.

    from quorate.client import Client

    with Client(["http://localhost:8000", "http://localhost:8001"]) as client:
        version = client.put("greeting", "hello").version
        found = client.get("greeting")
        client.put("greeting", "hi", if_version=version)  # or PreconditionFailed
        client.increment("greetings")
        with client.lock("greeter") as lease:
            ...

Errors are those of `quorate.errors`: `outcome` tells whether a failed write may survive.
`AsyncClient` is the same for asyncio; it is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.client.blocking import Client
from quorate.client.calls import (
    BatchDelete,
    BatchGet,
    BatchOperation,
    BatchPut,
    BatchResult,
    Call,
    Incremented,
    KeyPage,
    LeaseLost,
    LeaseTaken,
    TlsFailed,
    Unreachable,
    Value,
    Written,
)
from quorate.client.leases import Lease

if TYPE_CHECKING:
    from quorate.client.async_leases import AsyncLease
    from quorate.client.asynchronous import AsyncClient

__all__ = [
    "AsyncClient",
    "AsyncLease",
    "BatchDelete",
    "BatchGet",
    "BatchOperation",
    "BatchPut",
    "BatchResult",
    "Call",
    "Client",
    "Incremented",
    "KeyPage",
    "Lease",
    "LeaseLost",
    "LeaseTaken",
    "TlsFailed",
    "Unreachable",
    "Value",
    "Written",
]


def __getattr__(name: str) -> object:
    """Import what a single get or put never needs (asyncio costs more than the request)."""
    if name == "AsyncClient":
        from quorate.client.asynchronous import AsyncClient

        return AsyncClient
    if name == "AsyncLease":
        from quorate.client.async_leases import AsyncLease

        return AsyncLease
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
