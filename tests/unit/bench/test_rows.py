# SPDX-License-Identifier: GPL-3.0-or-later
"""A CSV file has every figure of every round, and every slice of time."""

from __future__ import annotations

import csv
from pathlib import Path

from quorate.bench.result import Slice, together
from quorate.bench.rows import COLUMNS, write_csv
from tests.unit.bench.plans import result


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_there_is_a_row_for_each_kind_of_each_round(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_csv(path, [together([result(1000, 1000), result(2000, errors={"BUSY": 3})])])
    rows = read(path)
    assert tuple(rows[0]) == COLUMNS
    kinds = [(row["round"], row["kind"]) for row in rows]
    assert kinds == [(number, kind) for number in "12" for kind in ("all", "reads", "writes")]
    assert (rows[0]["requests"], rows[0]["per_second"], rows[0]["max_ms"]) == ("2", "1.0", "1.0")
    assert (rows[3]["errors"], rows[0]["errors"]) == ("3", "0")


def test_slices_are_rows_with_their_time(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_csv(path, [result(1000, timeline=[Slice(5, 1, 2.5), Slice(7)], rate=50.0)])
    first, second = (row for row in read(path) if row["kind"] == "slice")
    assert (first["at_s"], first["requests"], first["per_second"]) == ("0.0", "5", "50.0")
    assert (first["max_ms"], first["errors"], first["rate"]) == ("2.5", "1", "50.0")
    assert (second["at_s"], second["requests"]) == ("0.1", "7")
