# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault that can be planted in the store and is gone afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest

from quorate.sim.acts import MOVING
from quorate.sim.draw import Options
from quorate.sim.faults import FAULTS

DEFAULT: Final = Options(faults=frozenset(FAULTS) - MOVING)
"""Worlds in which no copy moves: they are soon over. Who is noticed where copies move says so."""


class Plant(NamedTuple):
    """A planted fault: `faulty` takes the place of one method of a class, or name of a module."""

    name: str
    owner: type | ModuleType
    seam: str
    faulty: Callable[..., Any]
    options: Options = DEFAULT
    """Of the worlds in which it is looked for."""

    def found(self) -> object:
        """What is in the place now."""
        return vars(self.owner)[self.seam]


@contextmanager
def planted(plant: Plant) -> Iterator[Counter[str]]:
    """Have the fault in the store; counts how often its code ran, by the name of the plant."""
    ran: Counter[str] = Counter()

    def counted(*args: Any, **named: Any) -> Any:
        ran[plant.name] += 1
        return plant.faulty(*args, **named)

    assert plant.seam in vars(plant.owner), f"{plant.name}: {plant.owner} has no {plant.seam}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plant.owner, plant.seam, counted)
        yield ran
