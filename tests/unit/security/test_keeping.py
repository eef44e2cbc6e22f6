# SPDX-License-Identifier: GPL-3.0-or-later
"""What is trusted is kept up to date; what cannot be used changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quorate.config import Config
from quorate.security.contexts import CertificateFiles
from quorate.security.keeping import Keeper, Sources, TrustError, sources_of, tls_mode
from quorate.security.secret import new_secret, show_secret, write_secret
from tests.pki import Pki


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    write_secret(path, new_secret())
    return path


def keeper_of(file: Path) -> Keeper:
    return Keeper(Sources("quorate", secret_file=str(file)), now=Clock())


def put(path: Path, *secrets: bytes) -> None:
    """Write the file anew, as an editor does."""
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_text("".join(f"{show_secret(each)}\n" for each in secrets))
    new.replace(path)


def test_a_change_is_taken_once_the_files_stand_still(file: Path) -> None:
    keeper = keeper_of(file)
    before = keeper.trust
    assert not keeper.look()
    put(file, new_secret(), new_secret())
    assert not keeper.look(), "perhaps another file is written now"
    assert keeper.trust is before
    assert keeper.look()
    assert len(keeper.trust.authorities) == 2
    assert not keeper.look()


def test_what_is_asked_for_is_read_at_once(file: Path) -> None:
    keeper = keeper_of(file)
    put(file, new_secret(), new_secret())
    assert keeper.look(is_asked=True)
    assert len(keeper.trust.authorities) == 2
    assert not keeper.look()


def test_what_cannot_be_used_is_told_once_and_the_old_stays_in_force(file: Path) -> None:
    keeper = keeper_of(file)
    before = keeper.trust
    file.write_text("qs1.wrong\n")
    assert not keeper.look()
    with pytest.raises(TrustError, match=f"-secret-file {file}: "):
        keeper.look()
    assert not any(keeper.look() for _ in range(3))
    assert keeper.trust is before
    file.unlink()
    assert not keeper.look()
    with pytest.raises(TrustError, match="No such file"):
        keeper.look()
    put(file, new_secret())
    assert [keeper.look() for _ in range(3)] == [False, True, False]
    assert keeper.trust is not before


def test_a_file_that_others_could_read_is_taken_once_they_cannot(file: Path) -> None:
    keeper = keeper_of(file)
    put(file, new_secret())
    file.chmod(0o644)
    assert not keeper.look()
    with pytest.raises(TrustError, match="others can read it"):
        keeper.look()
    file.chmod(0o600)
    assert not keeper.look()
    assert keeper.look(), "nothing else of the file changed"


def test_without_a_place_for_temporary_files_the_old_stays_in_force(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(file)
    before = keeper.trust
    monkeypatch.setattr("tempfile.tempdir", str(file.parent / "full"))
    with pytest.raises(TrustError, match="No such file"):
        keeper.look(is_asked=True)
    assert keeper.trust is before


def test_a_key_that_goes_while_it_is_read_leaves_the_old_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Pki(tmp_path).issue("node", "localhost")
    files = CertificateFiles(str(shown.certificate), str(shown.key))
    keeper = Keeper(Sources("quorate", files=files, is_for_clients=True), now=Clock())
    before = keeper.trust
    shown.key.unlink()
    monkeypatch.setattr("quorate.security.contexts._readable", lambda path, _: _bytes_of(path))
    with pytest.raises(TrustError, match="No such file"):
        keeper.look(is_asked=True)
    assert keeper.trust is before


def _bytes_of(path: str) -> bytes:
    """As it was a moment ago."""
    return Path(path).read_bytes() if Path(path).exists() else b""


def test_without_anything_usable_there_is_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="QUORATE_SECRET: "):
        Keeper(Sources("quorate", secret="hunter2"), now=Clock())
    with pytest.raises(TrustError, match="-secret-file "):
        keeper_of(tmp_path / "none")
    files = CertificateFiles(str(tmp_path / "none"), str(tmp_path / "none"))
    with pytest.raises(TrustError, match="-tls-cert "):
        Keeper(Sources("quorate", files=files, is_for_clients=True), now=Clock())


def test_that_a_certificate_expires_is_told_from_thirty_days_before_once_a_day(
    tmp_path: Path,
) -> None:
    issued = Pki(tmp_path).issue("node", "a.test", days=100)
    clock = Clock()
    files = CertificateFiles(str(issued.certificate), str(issued.key))
    keeper = Keeper(Sources("quorate", files=files, is_for_clients=True), now=clock)
    told = []
    for hour in range(24 * 102):
        if keeper.is_warning_due():
            told.append(hour // 24)
        clock.now += timedelta(hours=1)
    # It began an hour ago. Also once it has expired.
    assert told == list(range(69, 102))
    assert keeper.expires_s is not None
    assert keeper.expires_s < 0


def test_what_comes_of_the_secret_expires_never(file: Path) -> None:
    keeper = keeper_of(file)
    assert keeper.expires_s is None
    assert not keeper.is_warning_due()


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        (Config(), "off"),
        (Config(secret_file="s"), "off"),
        (Config(tls_cert="c", tls_key="k"), "required"),
        (Config(tls_cert="c", tls_key="k", tls="optional"), "optional"),
        (Config(secret_file="s", tls="required"), "required"),
    ],
)
def test_clients_need_tls_where_there_is_a_certificate_for_them(config: Config, mode: str) -> None:
    assert tls_mode(config) == mode
    sources = sources_of(config, "")
    assert (sources is None) == (config == Config())
    assert sources is None or sources.is_for_clients == (mode != "off")
    assert sources_of(config, "qs1.") is not None
