# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret and certificates are read again while the node runs, whatever one reading comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from quorate.runtime import renewing
from quorate.runtime.renewing import Renewal
from quorate.security import keeping
from quorate.security.contexts import CertificateFiles, Trust, make_trust
from quorate.security.keeping import Keeper, Sources
from quorate.security.secret import new_secret, show_secret, write_secret
from tests.pki import Pki


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    write_secret(tmp_path / "secret", new_secret())
    sources = Sources("quorate", secret_file=str(tmp_path / "secret"))
    return Keeper(sources, now=lambda: datetime.now(UTC))


def put(path: Path, count: int) -> None:
    """Write so many new secrets, as an editor does."""
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_text("".join(f"{show_secret(new_secret())}\n" for _ in range(count)))
    fresh.replace(path)


def test_what_nobody_foresaw_is_told_once_and_the_change_is_taken_all_the_same(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewing, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr("quorate.recurring.FIRST_S", 0.001)
    tries = 0

    def break_twice(*given: Any, **named: Any) -> Trust:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise MemoryError
        return make_trust(*given, **named)

    monkeypatch.setattr(keeping, "make_trust", break_twice)

    async def main() -> None:
        renewal = Renewal(keeper)
        renewal.start()
        put(tmp_path / "secret", 2)
        await until(lambda: len(keeper.trust.authorities) == 2)
        await renewal.close()

    with capture_logs() as lines:
        asyncio.run(main())
    assert [line["event"] for line in lines] == ["background_failed", "trust_renewed"]


def test_a_key_that_others_can_read_is_told_at_the_start_and_when_it_becomes_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewing, "LOOK_SECONDS", 0.001)
    shown = Pki(tmp_path).issue("node", "a.nodes.test")
    key = Path(shown.key)
    key.chmod(0o644)
    keeper = Keeper(
        Sources("quorate", files=CertificateFiles(str(shown.certificate), str(key), "")),
        now=lambda: datetime.now(UTC),
    )
    looks = 0
    look = keeper.look

    def count(*, is_asked: bool) -> None:
        nonlocal looks
        looks += 1
        look(is_asked=is_asked)

    monkeypatch.setattr(keeper, "look", count)

    async def main() -> None:
        renewal = Renewal(keeper)
        renewal.start()
        for mode in (0o600, 0o640, 0o644):
            before = looks
            await until(lambda before=before: looks > before + 2)  # type: ignore[misc]
            key.chmod(mode)
        before = looks
        await until(lambda: looks > before + 2)
        await renewal.close()

    with capture_logs() as lines:
        asyncio.run(main())
    told = [each for each in lines if each["event"] != "trust_renewed"]
    line = {"event": "key_open_to_others", "file": str(key), "cure": f"chmod go= {key}"}
    assert told == [{**line, "log_level": "warning"}] * 2


def test_on_request_all_is_read_at_once(keeper: Keeper, tmp_path: Path) -> None:
    async def main() -> None:
        renewal = Renewal(keeper)
        renewal.start()
        await asyncio.sleep(0)
        put(tmp_path / "secret", 2)
        renewal.read_now()
        await until(lambda: len(keeper.trust.authorities) == 2)
        await renewal.close()

    asyncio.run(main())
