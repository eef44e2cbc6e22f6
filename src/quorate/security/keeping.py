# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node trusts, kept up to date: read at the start, and again when files change.

What is new is read whole before anything of it counts. If it cannot be used, all stays as it was
until files change once more. A change is taken only when the files look the same twice in a row:
certificate and key are two files, and whoever renews them writes one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from quorate.config import Config
from quorate.security.contexts import CertificateError, CertificateFiles, Trust, make_trust
from quorate.security.secret import SecretError, load_secrets, read_secrets

WARN_BEFORE: Final = timedelta(days=30)
"""How long before the first certificate expires that is told."""
WARN_EVERY: Final = timedelta(days=1)

Stamp = tuple[tuple[int, ...], ...]
"""What tells of each file that it was changed, or who may read it."""


class TrustError(Exception):
    """Secret or certificates cannot be used: one line that says which, what is and what to do."""


class Sources(NamedTuple):
    """Where secrets and certificates come from."""

    cluster: str
    secret: str = ""
    """The text itself, of the environment."""
    secret_file: str = ""
    files: CertificateFiles = CertificateFiles()
    peer_names: tuple[str, ...] = ()
    is_for_clients: bool = False


def sources_of(config: Config, secret: str) -> Sources | None:
    """What the settings name; None if there is neither a secret nor TLS."""
    if not (secret or config.secret_file or config.tls_cert or config.tls_ca):
        return None
    files = CertificateFiles(config.tls_cert, config.tls_key, config.tls_ca)
    mode = tls_mode(config)
    return Sources(
        config.cluster, secret, config.secret_file, files, config.peer_names, mode != "off"
    )


def tls_mode(config: Config) -> str:
    """`off`, `optional` or `required`, for clients."""
    return config.tls or ("required" if config.tls_cert else "off")


class Keeper:
    """The trust in force. TrustError if there is nothing usable to begin with.

    What a node shows names none until `show_as` is told which it is: that is known once its data
    is open, and what is wrong with a secret is to be said before.
    """

    def __init__(self, sources: Sources, *, now: Callable[[], datetime]) -> None:
        self._sources = sources
        self._node_id = 0
        self._now = now
        self._paths = [Path(path) for path in (sources.secret_file, *sources.files) if path]
        self._stamp = self._seen = self._look_at_files()
        self._warned: datetime | None = None
        self.trust: Trust = self._read()

    def show_as(self, node_id: int) -> None:
        """Show certificates of this node from now on. TrustError."""
        self._node_id = node_id
        self.trust = self._read()

    @property
    def expires_s(self) -> int | None:
        """Seconds until the first certificate that was given expires; negative once it has, None
        if none was given."""
        if self.trust.expires is None:
            return None
        return int((self.trust.expires - self._now()).total_seconds())

    def look(self, *, is_asked: bool = False) -> bool:
        """Read the files if they changed, or it is asked for; whether there is a new trust.
        TrustError if what is new cannot be used; told once for each change."""
        stamp, before = self._look_at_files(), self._seen
        self._seen = stamp
        if not is_asked and (stamp == self._stamp or stamp != before):
            return False
        self._stamp = stamp
        self.trust = self._read()
        return True

    def is_warning_due(self) -> bool:
        """Whether it is to be told, now, that the first certificate expires soon, or has."""
        now, expires = self._now(), self.trust.expires
        if expires is None or now < expires - WARN_BEFORE:
            self._warned = None
            return False
        if self._warned is not None and now < self._warned + WARN_EVERY:
            return False
        self._warned = now
        return True

    def _read(self) -> Trust:
        sources = self._sources
        try:
            if sources.secret_file:
                secrets = load_secrets(Path(sources.secret_file))
            else:
                secrets = read_secrets(sources.secret) if sources.secret else ()
        except SecretError as error:
            where = (
                f"-secret-file {sources.secret_file}" if sources.secret_file else "QUORATE_SECRET"
            )
            raise TrustError(f"{where}: {error}") from None
        try:
            return make_trust(
                secrets,
                sources.files,
                cluster=sources.cluster,
                node_id=self._node_id,
                peer_names=sources.peer_names,
                is_for_clients=sources.is_for_clients,
                now=self._now(),
            )
        except CertificateError as error:
            raise TrustError(str(error)) from None
        except OSError as error:
            # A file that went meanwhile, no room for a temporary one, or what OpenSSL alone minds.
            raise TrustError(
                f"secret and certificates cannot be used: {error}; SIGHUP has them read once more"
            ) from None

    def _look_at_files(self) -> Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def utc_now() -> datetime:
    """Now."""
    return datetime.now(UTC)
