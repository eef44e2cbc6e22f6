# SPDX-License-Identifier: GPL-3.0-or-later
"""Two machines whose processes only note what they hear, and a connection between them."""

from __future__ import annotations

from quorate.host.system import Connection
from tests.unit.host.wires import Heard, Host, Net


def text(number: int) -> bytes:
    return f"<{number}>".encode()


def numbers(data: bytes) -> list[int]:
    """Those of whole texts, in order."""
    return [int(each[1:]) for each in data.split(b">")[:-1] if each.startswith(b"<")]


class Pair(Net):
    """Two hosts, and a connection that the source has asked the target for."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.source, self.target = Host(self, "n0"), Host(self, "n1")
        self.hosts = {"n0": self.source, "n1": self.target}
        self.there = self.wire(self.source, self.target)
        self.back = self.wire(self.target, self.source)
        self.accepted: list[Heard] = []
        self.source.accepts = self.target.accepts = self._accept
        self.dialled, self.taken = self.connect()

    def _accept(self) -> Connection:
        self.accepted.append(Heard(self.target))
        return self.accepted[-1]

    def dial(self) -> Heard:
        dialled = Heard(self.source)
        self.source.dial("n1", dialled)
        return dialled

    def connect(self) -> tuple[Heard, Heard]:
        """One connection more: both ends."""
        dialled = self.dial()
        self.run()
        assert dialled.words == ["made"]
        return dialled, self.accepted[-1]

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.dialled.channel.write(text(number))

    @property
    def heard(self) -> list[int]:
        return numbers(self.taken.data)
