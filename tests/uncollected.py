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

    gc.collect()
    # What there is by now is listed no more: looking through it all takes most of a second.
    gc.freeze()
    gc.disable()
    try:
        yield lambda: sum(isinstance(each, kinds) for each in gc.get_objects())
    finally:
        gc.enable()
        gc.unfreeze()
