# SPDX-License-Identifier: GPL-3.0-or-later
"""Work spread over processes: all of it comes back once, and no process is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial

import pytest

from quorate.cli.workers import WorkerDied, spread


def squared(number: int) -> int:
    """Work that any process can do."""
    return number * number


def pid_of(_item: int) -> int:
    """Says who worked."""
    return os.getpid()


def killed_at_three(number: int) -> int:
    """Work that ends its process without a word."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def scaled(factor: int, number: int) -> int:
    """Work with something to carry."""
    return factor * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_comes_back_exactly_once(jobs: int) -> None:
    assert sorted(spread(squared, range(20), jobs=jobs)) == [n * n for n in range(20)]


def test_work_may_carry_what_it_needs() -> None:
    assert sorted(spread(partial(scaled, 3), [1, 2], jobs=2)) == [3, 6]


def test_one_job_needs_no_other_process_and_two_use_two() -> None:
    assert set(spread(pid_of, range(3), jobs=1)) == {os.getpid()}
    assert os.getpid() not in spread(pid_of, range(3), jobs=2)


def test_a_worker_that_dies_is_named_with_its_item_and_the_others_are_ended() -> None:
    with pytest.raises(WorkerDied, match="worked on 3 ended with code -9"):
        list(spread(killed_at_three, range(10), jobs=2))
    assert multiprocessing.active_children() == []


def test_leaving_early_ends_every_worker_and_gives_ctrl_c_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    results = spread(squared, range(1000), jobs=2)
    assert next(results) in (0, 1)
    results.close()
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is before


def test_no_items_is_no_work() -> None:
    assert list(spread(squared, [], jobs=2)) == []
