# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA as both ends of a client's connection see it: contexts of servers, files of clients."""

from __future__ import annotations

import itertools
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.pki import Pki


class Authority:
    """A CA of its own; its files are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._pki = Pki(directory)
        self._numbers = itertools.count()
        self.ca = str(self._pki.path)
        """The file that a client trusts."""

    def server(
        self, *names: str, begins: datetime | None = None, clients: Authority | None = None
    ) -> ssl.SSLContext:
        """A server's, called `names` (default: 127.0.0.1 and localhost), good for a day; with
        `clients` it asks for a certificate that is theirs."""
        chain, key = self._pki.issue(
            f"server-{next(self._numbers)}",
            *(names or ("127.0.0.1", "localhost")),
            begins=begins,
            days=1,
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        if clients is not None:
            context.load_verify_locations(clients.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def expired(self) -> ssl.SSLContext:
        """A server's whose certificate was good once."""
        return self.server(begins=datetime.now(UTC) - timedelta(days=2))

    def files(self, *names: str) -> tuple[str, str]:
        """A server's, called `names`: the file of its certificate, and that of its key."""
        chain, key = self._pki.issue(f"server-{next(self._numbers)}", *names)
        return str(chain), str(key)

    def certificate(self, name: str = "someone") -> tuple[str, str]:
        """A client's: the file of its certificate, and that of its key."""
        chain, key = self._pki.issue(f"client-{next(self._numbers)}", common_name=name)
        return str(chain), str(key)
