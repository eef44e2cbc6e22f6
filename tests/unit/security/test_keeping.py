# SPDX-License-Identifier: GPL-3.0-or-later
"""What is trusted is kept up to date; what cannot be used changes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quorate.config import Config
from quorate.security.contexts import CertificateFiles
from quorate.security.keeping import Keeper, Sources, TrustError, sources_of, tls_mode
from quorate.security.secret import new_secret, show_secret, write_secret
from tests.pki import Files, Pki, without_place


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


def renewed(keeper: Keeper, *, is_asked: bool = False) -> bool:
    """Look once; whether something else is trusted since."""
    before = keeper.trust
    keeper.look(is_asked=is_asked)
    return keeper.trust is not before


def put(path: Path, *secrets: bytes) -> None:
    """Write the file anew, as an editor does."""
    new = path.with_suffix(".new")
    new.touch(0o600)
    new.write_text("".join(f"{show_secret(each)}\n" for each in secrets))
    new.replace(path)


def test_a_change_is_taken_once_the_files_stand_still(file: Path) -> None:
    keeper = keeper_of(file)
    before = keeper.trust
    assert not renewed(keeper)
    put(file, new_secret(), new_secret())
    assert not renewed(keeper), "perhaps another file is written now"
    assert keeper.trust is before
    assert renewed(keeper)
    assert len(keeper.trust.authorities) == 2
    assert not renewed(keeper)


def test_what_is_asked_for_is_read_at_once(file: Path) -> None:
    keeper = keeper_of(file)
    put(file, new_secret(), new_secret())
    assert renewed(keeper, is_asked=True)
    assert len(keeper.trust.authorities) == 2
    assert not renewed(keeper)


def test_what_cannot_be_used_is_told_once_and_the_old_stays_in_force(file: Path) -> None:
    keeper = keeper_of(file)
    before = keeper.trust
    file.write_text("qs1.wrong\n")
    assert not renewed(keeper)
    with pytest.raises(TrustError, match=f"-secret-file {file}: "):
        keeper.look()
    assert not any(renewed(keeper) for _ in range(3))
    assert keeper.trust is before
    file.unlink()
    assert not renewed(keeper)
    with pytest.raises(TrustError, match="No such file"):
        keeper.look()
    put(file, new_secret())
    assert [renewed(keeper) for _ in range(3)] == [False, True, False]
    assert keeper.trust is not before


def test_a_file_that_others_could_read_is_taken_once_they_cannot(file: Path) -> None:
    keeper = keeper_of(file)
    put(file, new_secret())
    file.chmod(0o644)
    assert not renewed(keeper)
    with pytest.raises(TrustError, match="others can read it"):
        keeper.look()
    file.chmod(0o600)
    assert not renewed(keeper)
    assert renewed(keeper), "nothing else of the file changed"


def test_without_a_place_for_files_the_old_stays_in_force(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(file)
    before = keeper.trust
    without_place(monkeypatch, file.parent)
    with pytest.raises(TrustError, match="No such file"):
        keeper.look(is_asked=True)
    assert keeper.trust is before


@pytest.fixture
def both(file: Path, tmp_path: Path) -> tuple[Keeper, Clock, Pki, Files]:
    """A keeper of a secret, a certificate and a bundle of authorities."""
    pki, clock = Pki(tmp_path), Clock()
    issued = pki.issue("node", "a.test", days=9)
    files = CertificateFiles(str(issued.certificate), str(issued.key), str(pki.path))
    sources = Sources("quorate", secret_file=str(file), files=files, is_for_clients=True)
    return Keeper(sources, now=clock), clock, pki, issued


Both = tuple[Keeper, Clock, Pki, Files]


def test_a_certificate_that_has_expired_keeps_no_secret_from_being_changed(
    both: Both, file: Path
) -> None:
    keeper, clock, pki, issued = both
    clock.now += timedelta(days=10)
    put(file, new_secret(), new_secret())
    keeper.look()
    with pytest.raises(TrustError, match=f"^-tls-cert {issued.certificate}: it expired at"):
        keeper.look()
    assert len(keeper.trust.authorities) == 2
    assert keeper.expires_s is not None
    assert keeper.expires_s < 0, "what was shown is still shown"
    pki.issue("node", "a.test", days=100)
    assert [renewed(keeper) for _ in range(3)] == [False, True, False]
    assert keeper.expires_s > 0


def test_a_secret_that_found_no_place_is_taken_when_asked_again_whatever_the_certificate(
    both: Both, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read and could not be made use of is not in force."""
    keeper, clock, _, _ = both
    clock.now += timedelta(days=10)
    put(file, new_secret(), new_secret())
    with monkeypatch.context() as full:
        without_place(full, file.parent)
        with pytest.raises(TrustError, match="SIGHUP has them read once more"):
            keeper.look(is_asked=True)
    with pytest.raises(TrustError, match=r"^-tls-cert"):
        keeper.look(is_asked=True)
    assert len(keeper.trust.authorities) == 2


@pytest.mark.parametrize("part", ["certificate", "key", "authorities"])
@pytest.mark.parametrize("text", [b"", b"no PEM", None])
def test_whichever_file_cannot_be_used_the_others_are_read(
    part: str, text: bytes | None, both: Both, file: Path
) -> None:
    keeper, _, pki, issued = both
    before = keeper.expires_s
    spoilt = {"certificate": issued.certificate, "key": issued.key, "authorities": pki.path}[part]
    spoilt.unlink()
    if text is not None:
        spoilt.write_bytes(text)
    put(file, new_secret(), new_secret())
    keeper.look()
    with pytest.raises(TrustError, match=str(spoilt)):
        keeper.look()
    assert len(keeper.trust.authorities) == 2
    assert keeper.expires_s == before


def test_a_secret_that_cannot_be_used_keeps_no_certificate_from_being_changed(
    both: Both, file: Path
) -> None:
    keeper, _, pki, _ = both
    authorities = keeper.trust.authorities
    file.write_text("qs1.wrong\n")
    pki.issue("node", "a.test", days=100)
    keeper.look()
    with pytest.raises(TrustError, match=f"^-secret-file {file}: "):
        keeper.look()
    assert keeper.trust.authorities == authorities
    assert keeper.expires_s is not None
    assert keeper.expires_s > timedelta(days=98).total_seconds()


def test_all_that_cannot_be_used_is_told_together(both: Both, file: Path) -> None:
    keeper, _, pki, issued = both
    for path in (file, issued.key, pki.path):
        path.unlink()
    before = keeper.trust
    with pytest.raises(TrustError) as caught:
        keeper.look(is_asked=True)
    assert [flag in str(caught.value) for flag in ("-secret-file", "-tls-key", "-tls-ca")] == (
        [True] * 3
    )
    assert keeper.trust is before


@pytest.mark.parametrize("name", ["secret", "node.pem", "node.key", "ca.pem"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_waited_for_by_nobody(
    name: str, both: Both, tmp_path: Path
) -> None:
    keeper, *_ = both
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name, 0o600)
    with pytest.raises(TrustError, match=f"{name}: it cannot be read: it is no file"):
        keeper.look(is_asked=True)


def by_names(issued: Files, pki: Pki) -> Keeper:
    files = CertificateFiles(str(issued.certificate), str(issued.key), str(pki.path))
    return Keeper(Sources("quorate", files=files, peer_names=("*.nodes.test",)), now=Clock())


def test_without_a_secret_a_certificate_is_for_the_host_that_others_find_the_node_at(
    tmp_path: Path,
) -> None:
    pki = Pki(tmp_path)
    keeper = by_names(pki.issue("node", "a.nodes.test", "10.1.2.3"), pki)
    with pytest.raises(TrustError, match=r"is for a.nodes.test, 10.1.2.3, and other nodes"):
        keeper.stand_at("http://b.nodes.test:8000")
    for url in ("http://a.nodes.test:8000", "http://10.1.2.3:8000"):
        keeper.stand_at(url)
    before = keeper.trust
    pki.issue("node", "b.nodes.test")
    with pytest.raises(TrustError, match=r"is for b.nodes.test, and other nodes find this one at"):
        keeper.look(is_asked=True)
    assert keeper.trust is before
    pki.issue("node", "10.1.2.3", "c.nodes.test")
    assert renewed(keeper, is_asked=True)


def test_beside_a_secret_it_is_for_clients_whatever_they_call_the_node(
    tmp_path: Path, file: Path
) -> None:
    pki = Pki(tmp_path)
    issued = pki.issue("node", "public.test")
    files = CertificateFiles(str(issued.certificate), str(issued.key), str(pki.path))
    sources = Sources("quorate", secret_file=str(file), files=files, peer_names=("*.nodes.test",))
    Keeper(sources, now=Clock()).stand_at("http://10.1.2.3:8000")


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
