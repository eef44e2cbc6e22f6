# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests, made as they run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from quorate.security import contexts


class Files(NamedTuple):
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    @property
    def flags(self) -> list[str]:
        """For a node that shows it to clients."""
        return [f"-tls-cert={self.certificate}", f"-tls-key={self.key}"]


class Pki:
    """An authority, whose certificate is in the file `path`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._directory = directory
        self.path = directory / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.path)

    def issue(
        self,
        file: str,
        *names: str,
        begins: datetime | None = None,
        days: float = 365.0,
        common_name: str | None = None,
    ) -> Files:
        """A certificate for these names, from `begins` (an hour ago) for some days."""
        begin = begins or datetime.now(UTC) - timedelta(hours=1)
        issued = self._authority.issue_cert(
            # Without any it would list none, which Python 3.13 refuses.
            *(names or ("nobody.invalid",)),
            common_name=common_name,
            not_before=begin,
            not_after=begin + timedelta(days=days),
            key_type=trustme.KeyType.ECDSA,
        )
        files = Files(self._directory / f"{file}.pem", self._directory / f"{file}.key")
        # As whoever renews them does: whole, and in the place of the old one.
        for path, blobs in (
            (files.certificate, issued.cert_chain_pems),
            (files.key, [issued.private_key_pem]),
        ):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(b"".join(each.bytes() for each in blobs))
            fresh.replace(path)
        return files


def without_place(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have neither memory nor a disk for the files that OpenSSL reads."""
    monkeypatch.setattr(contexts, "_DESCRIPTORS", directory / "none")
    monkeypatch.setattr("tempfile.tempdir", str(directory / "full"))
