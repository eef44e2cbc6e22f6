# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits for the garbage collector: objects in rings, and all that these hold."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def uncollected(*kinds: type) -> Iterator[Callable[[], int]]:
    """How many objects of these kinds there are that were not there before. Nothing is collected
    meanwhile, as a node collects once in some thousand requests: with values of 16 MiB that is too
    late."""

    def standing() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    gc.collect()
    gc.disable()
    # Held, so that no other takes the identity of one.
    others = standing()
    known = {id(each) for each in others}
    try:
        yield lambda: sum(1 for each in standing() if id(each) not in known)
    finally:
        gc.enable()
