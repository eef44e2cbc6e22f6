# SPDX-License-Identifier: GPL-3.0-or-later
"""Planted faults: proof that the simulator bites.

Each is a wrong variant of the store's own code, put in its place for a run. `plants/seeds.json` has
for each the first seed whose run is green without the plant and breaks a promise with it, and which
promises those are. What changes draws, or the store, may shift them; then search again:

    python -m tests.simulation.planted                 # all; prints the table, writes the file
    python -m tests.simulation.planted "a hint counts"  # those with this in the name
    python -m tests.simulation.planted --without 500    # which of so many worlds without a plant's
                                                        # own faults, and with all others, notice it
"""

from __future__ import annotations

import argparse
import functools
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Final

import msgspec

from quorate.sim.draw import Options, draw
from quorate.sim.faults import MILD
from quorate.sim.run import RunResult, run
from tests.simulation.plants import (
    hosts,
    layouts,
    moves,
    peers,
    reads,
    recovery,
    replicas,
    updates,
    writes,
)
from tests.simulation.plants.plant import DEFAULT, Plant, planted

PLANTS: Final = {
    plant.name: plant
    for plant in (
        *writes.PLANTS,
        *updates.PLANTS,
        *reads.PLANTS,
        *replicas.PLANTS,
        *peers.PLANTS,
        *hosts.PLANTS,
        *layouts.PLANTS,
        *moves.PLANTS,
        *recovery.PLANTS,
    )
}
SEEDS_MAX: Final = 2_000
"""Within which every plant must be noticed."""
SEEDS_FILE: Final = Path(__file__).parent / "plants" / "seeds.json"


class Notice(msgspec.Struct, frozen=True):
    """The first seed that notices a plant, and the promises that its run finds broken."""

    seed: int
    broken: list[str]


def known() -> dict[str, Notice]:
    """What was found for each plant, by name."""
    return msgspec.json.decode(SEEDS_FILE.read_bytes(), type=dict[str, Notice])


@functools.cache
def without(seed: int, options: Options) -> RunResult:
    """The run of a seed with the store as it is."""
    return run(draw(seed, options))


def with_plant(plant: Plant, seed: int) -> tuple[RunResult, int]:
    """The run of a seed with the plant; and how often faulty code ran."""
    with planted(plant) as ran:
        return run(draw(seed, plant.options)), ran[plant.name]


def search(name: str) -> Notice | None:
    """The first seed that notices a plant and is green without it."""
    plant = PLANTS[name]
    for seed in range(SEEDS_MAX):
        outcome, _ = with_plant(plant, seed)
        if outcome.violations and not without(seed, plant.options).violations:
            return Notice(seed, sorted({each.invariant for each in outcome.violations}))
    return None


def elsewhere(name: str, seeds: int) -> int | None:
    """The first seed below `seeds` that notices a plant in a world with all faults but its own."""
    plant = PLANTS[name]
    options = DEFAULT._replace(faults=DEFAULT.faults - plant.options.faults)
    for seed in range(seeds):
        outcome, _ = with_plant(plant._replace(options=options), seed)
        if outcome.violations and not without(seed, options).violations:
            return seed
    return None


def _tell_elsewhere(names: list[str], seeds: int, *, jobs: int) -> None:
    named = [name for name in names if PLANTS[name].options.faults not in (DEFAULT.faults, MILD)]
    print(f"| planted fault | its own faults | in {seeds} worlds with all others |\n|---|---|---|")
    with ProcessPoolExecutor(jobs) as pool:
        for name, seed in zip(named, pool.map(elsewhere, named, repeat(seeds)), strict=True):
            own = ", ".join(sorted(PLANTS[name].options.faults))
            told = "unseen" if seed is None else f"seen, seed {seed}"
            print(f"| {name} | {own} | {told} |", flush=True)


def main() -> None:
    """Search for what is asked, print it as the table of docs/simulation.md, and note the seeds."""
    parser = argparse.ArgumentParser(description="Find the seeds that notice planted faults.")
    parser.add_argument("part", nargs="?", default="", help="of the names of the plants")
    parser.add_argument("--without", type=int, metavar="SEEDS", help="try other faults' worlds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    given = parser.parse_args()
    names = [name for name in PLANTS if given.part in name]
    if given.without:
        _tell_elsewhere(names, given.without, jobs=given.jobs)
        return
    seeds = known()
    print("| planted fault | noticed as | seed | faults |\n|---|---|---|---|")
    with ProcessPoolExecutor(given.jobs) as pool:
        for name, notice in zip(names, pool.map(search, names), strict=True):
            print(_row(PLANTS[name], notice), flush=True)
            if notice is not None:
                seeds[name] = notice
    ordered = {name: seeds[name] for name in PLANTS if name in seeds}
    SEEDS_FILE.write_bytes(msgspec.json.format(msgspec.json.encode(ordered)) + b"\n")


def _row(plant: Plant, notice: Notice | None) -> str:
    faults = {DEFAULT.faults: "any", MILD: "the mild ones"}.get(
        plant.options.faults, ", ".join(sorted(plant.options.faults))
    )
    if notice is None:
        return f"| {plant.name} | nothing | none below {SEEDS_MAX} | {faults} |"
    return f"| {plant.name} | {', '.join(notice.broken)} | {notice.seed} | {faults} |"


if __name__ == "__main__":
    main()
