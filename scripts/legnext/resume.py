"""Which prompts already have a job in the output directory: pure matching."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from legnext.output_dir import Record, Trace


def claim(
    prompts: Sequence[str], records: Iterable[Record], traces: Iterable[Trace]
) -> list[Record | Trace | None]:
    """Return for each prompt the record or trace that it claims, or None: to be submitted.

    Each record is claimed once, completed ones first, then by time. A failed job counts as not done. A
    trace (a submit whose outcome nobody knows) is claimed where no record is left.
    """
    wanted = set(prompts)
    found: dict[str, list[Record | Trace]] = defaultdict(list)
    usable = [r for r in records if r.prompt in wanted and r.job.status != "failed"]
    for record in sorted(usable, key=lambda r: (not r.job.completed, r.submitted_at or "")):
        found[record.prompt or ""].append(record)
    for trace in traces:
        found[trace.prompt].append(trace)
    return [found[prompt].pop(0) if found[prompt] else None for prompt in prompts]
