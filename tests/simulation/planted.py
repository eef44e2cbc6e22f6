# SPDX-License-Identifier: GPL-3.0-or-later
"""Planted faults: proof that the simulator bites.

Each is a wrong variant of the store's own code, put in its place for a run. `plants/seeds.json` has
for each the first seed whose run is green without the plant and breaks a promise with it, and which
promises those are. What changes draws, or the store, may shift them; then search again:

    python -m tests.simulation.planted                 # all; prints the table, writes the file
    python -m tests.simulation.planted "a hint counts"  # those with this in the name
"""

from __future__ import annotations

import argparse
import functools
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from quorate.core import node
from quorate.sim.plan import MILD, Options, draw
from quorate.sim.run import Outcome, run
from tests.simulation.plants import hosts, peers, reads, replicas, writes
from tests.simulation.plants.plant import DEFAULT, Plant, planted

PLANTS: Final = {
    plant.name: plant
    for plant in (
        *writes.PLANTS,
        *reads.PLANTS,
        *replicas.PLANTS,
        *peers.PLANTS,
        *hosts.PLANTS,
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


def is_compiled() -> bool:
    """Whether the core is compiled: its classes then cannot be changed."""
    return not str(node.__file__).endswith(".py")


@functools.cache
def without(seed: int, options: Options) -> Outcome:
    """The run of a seed with the store as it is."""
    return run(draw(seed, options))


def with_plant(plant: Plant, seed: int) -> tuple[Outcome, int]:
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


def main() -> None:
    """Search for what is asked, print it as the table of docs/simulation.md, and note the seeds."""
    parser = argparse.ArgumentParser(description="Find the seeds that notice planted faults.")
    parser.add_argument("part", nargs="?", default="", help="of the names of the plants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    given = parser.parse_args()
    names = [name for name in PLANTS if given.part in name]
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
