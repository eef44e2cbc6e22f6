# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node trusts, kept up to date: read at the start, and again when files change.

There are three parts: the secret, the certificate with its key, the bundle of authorities. Each is
read whole before anything of it counts. One that cannot be used stays as it was until files change
once more, and holds up no other: a certificate that has expired does not keep a secret from being
changed. A change is taken only when the files look the same twice in a row: certificate and key are
two files, and whoever renews them writes one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from quorate.config import Config
from quorate.files import is_open
from quorate.notation import is_one_of, split_url
from quorate.security.contexts import (
    Accepted,
    CertificateError,
    CertificateFiles,
    Shown,
    Trust,
    make_trust,
    read_accepted,
    read_shown,
)
from quorate.security.secret import SecretError, load_secrets, read_secrets

WARN_BEFORE: Final = timedelta(days=30)
"""How long before the first certificate expires that is told."""
WARN_EVERY: Final = timedelta(days=1)

Stamp = tuple[tuple[int, ...], ...]
"""What tells of each file that it was changed, or who may read it."""
_UNREAD: Final[Stamp] = ((0,),)
"""What no files have."""


class TrustError(Exception):
    """Secret or certificates cannot be used: one line that says which, what is and what to do."""


class _Parts(NamedTuple):
    """What was read, and is in force."""

    secrets: tuple[bytes, ...] = ()
    shown: Shown | None = None
    accepted: Accepted | None = None


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
        self._url = ""
        self._now = now
        self._paths = [Path(path) for path in (sources.secret_file, *sources.files) if path]
        self._stamp = self._seen = self._look_at_files()
        self._warned: datetime | None = None
        self._parts = self._in_force = _Parts()
        self._raise(self._read())
        self.trust: Trust = self._made()

    def show_as(self, node_id: int) -> None:
        """Show certificates of this node from now on. TrustError."""
        self._node_id = node_id
        self.trust = self._made()

    def stand_at(self, url: str) -> None:
        """Take no certificate from now on that other nodes refuse of a node at this URL.
        TrustError if the present one is such."""
        self._url = url
        try:
            self._check_host(self._parts.shown)
        except CertificateError as error:
            raise TrustError(str(error)) from None

    @property
    def expires_s(self) -> int | None:
        """Seconds until the first certificate that was given expires; negative once it has, None
        if none was given."""
        if self.trust.expires is None:
            return None
        return int((self.trust.expires - self._now()).total_seconds())

    def open_key(self) -> str:
        """The file of -tls-key, if others can read it; empty if they cannot, or there is none."""
        path = self._sources.files.key
        try:
            return path if path and is_open(os.stat(path)) else ""
        except OSError:
            return ""

    def look(self, *, is_asked: bool = False) -> None:
        """Read the files if they changed, or it is asked for; there is another `trust` then.
        TrustError if a part cannot be used, of which the others are in force all the same; told
        once for each change."""
        stamp, before = self._look_at_files(), self._seen
        self._seen = stamp
        if not is_asked and (stamp == self._stamp or stamp != before):
            return
        self._stamp = _UNREAD  # What raises here is tried again.
        faults = self._read()
        if not faults or self._parts != self._in_force:
            try:
                self.trust = self._made()
            except TrustError as error:
                faults.append(str(error))
        self._stamp = stamp
        self._raise(faults)

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

    def _read(self) -> list[str]:
        """Read each part, and keep those that can be used. Why others cannot, one line for each."""
        faults = []
        readers: dict[str, Callable[[], Any]] = {
            "secrets": self._secrets,
            "shown": self._shown,
            "accepted": self._accepted,
        }
        for name, read in readers.items():
            try:
                self._parts = self._parts._replace(**{name: read()})
            except CertificateError as error:
                faults.append(str(error))
            except OSError as error:
                faults.append(_unusable(error))
        return faults

    def _secrets(self) -> tuple[bytes, ...]:
        sources = self._sources
        try:
            if sources.secret_file:
                return load_secrets(Path(sources.secret_file))
            return read_secrets(sources.secret) if sources.secret else ()
        except SecretError as error:
            where = (
                f"-secret-file {sources.secret_file}" if sources.secret_file else "QUORATE_SECRET"
            )
            raise CertificateError(f"{where}: {error}") from None

    def _shown(self) -> Shown | None:
        shown = read_shown(self._sources.files, now=self._now())
        self._check_host(shown)
        return shown

    def _check_host(self, shown: Shown | None) -> None:
        sources = self._sources
        is_for_peers = sources.peer_names and not (sources.secret or sources.secret_file)
        if shown is None or not is_for_peers or not self._url:
            return
        if not is_one_of(split_url(self._url)[0], shown.hosts):
            raise CertificateError(
                f"-tls-cert {sources.files.certificate} is for {', '.join(shown.hosts)}, and other "
                f"nodes find this one at {self._url}: they refuse it unless the certificate is for "
                "that host; give one that is, or another -advertise"
            )

    def _accepted(self) -> Accepted | None:
        return read_accepted(self._sources.files, now=self._now())

    def _made(self) -> Trust:
        sources, parts = self._sources, self._parts
        try:
            trust = make_trust(
                parts.secrets,
                shown=parts.shown,
                others=parts.accepted,
                cluster=sources.cluster,
                node_id=self._node_id,
                peer_names=sources.peer_names,
                is_for_clients=sources.is_for_clients,
            )
        except OSError as error:
            raise TrustError(_unusable(error)) from None
        self._in_force = parts
        return trust

    @staticmethod
    def _raise(faults: list[str]) -> None:
        if faults:
            raise TrustError("; ".join(faults))

    def _look_at_files(self) -> Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _unusable(error: OSError) -> str:
    """No place for a file, or what OpenSSL alone minds."""
    return f"secret and certificates cannot be used: {error}; SIGHUP has them read once more"


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def utc_now() -> datetime:
    """Now."""
    return datetime.now(UTC)
