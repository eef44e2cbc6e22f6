# SPDX-License-Identifier: GPL-3.0-or-later
"""What TCP never does but a proxy or a broken transport may: whole frames lost, doubled, in another
order, or once more after minutes. The protocol must stand that too.

Reading a few bytes at a time is what TCP does all the time; it is here to be drawn as the rest is.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from quorate.sim.world import Span


class Noise(NamedTuple):
    """What becomes of whole frames: a probability each."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Frames that arrive out of order, up to `reorder_ms` late."""
    late: float = 0.0
    """Frames that come once more, `late_ms` later, on another connection if need be."""
    damage: float = 0.0
    """Frames in which a bit is flipped."""
    pieces: float = 0.0
    """Frames that are read a few bytes at a time."""
    reorder_ms: float = 50.0
    late_ms: Span = (1_000.0, 180_000.0)


def worst(noises: Sequence[Noise]) -> Noise:
    """What several noises on one link come to: the largest of each probability."""
    largest = (max(column) for column in zip(*noises, strict=True))
    return Noise(*largest)._replace(late_ms=noises[0].late_ms)


def cut_in_pieces(data: bytes, random: Random) -> list[bytes]:
    """The bytes, cut at a few places."""
    places = sorted(random.randrange(len(data) + 1) for _ in range(3))
    bounds = [0, *places, len(data)]
    return [data[bounds[i] : bounds[i + 1]] for i in range(4) if bounds[i] < bounds[i + 1]]
