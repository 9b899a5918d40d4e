"""The benchmark's own code runs, on a tiny size; what it measures is nobody's business here."""

from __future__ import annotations

import json
import sys

import pytest

import bench

TINY = bench.Size(
    starts=1,
    uvs=1,
    phases=2,
    trips=1,
    initial_wait=0.1,
    downloads=1,
    batches=1,
    prompts=7,
    service_time=0.1,
    few=1,
    many=2,
    known=20,
    readings=1,
    jobs_on_page=30,
    openings=0,  # a browser takes seconds to start
)


def test_the_benchmark_measures() -> None:
    rows = bench.measure(TINY, ("notice", "counts", "memory", "known", "galleries"))  # a piece of it
    # No browser here, and on Windows no peak of memory.
    not_here = {"of 20"} | ({"1 prompts"} if sys.platform == "win32" else set())
    assert all((row.ours and row.theirs) or row.against in not_here for row in rows)
    counted = [row for row in rows if row.equal]
    assert [row.theirs for row in counted] == [4, 1]
    lines = bench.table(rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert {line.count("|") for line in lines} == {8}
    assert [row["what"] for row in json.loads(bench.as_json(rows))["rows"]] == [row.what for row in rows]


@pytest.mark.parametrize(
    ("ours", "theirs", "aim", "equal", "met"),
    [
        (1.0, 2.0, 0.5, False, True),
        (1.1, 2.0, 0.5, False, False),
        (4.0, 4.0, 1.0, True, True),
        (3.0, 4.0, 1.0, True, False),
        (1.0, None, 0.5, False, None),
    ],
)
def test_an_aim_is_met_or_not_or_not_measured(
    ours: float, theirs: float | None, aim: float, equal: bool, met: bool | None
) -> None:
    assert bench.Row("", "", "", ours, theirs, aim, equal).met is met
