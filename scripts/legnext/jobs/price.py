"""What jobs cost before they are bought, and whether the budget and the balance bear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from legnext.errors import Failure
from legnext.prompt import points, usd

if TYPE_CHECKING:
    from collections.abc import Iterable


class Price(NamedTuple):
    """What some jobs cost, in points; `unknown` counts those whose price nobody documents."""

    jobs: int
    points: int
    unknown: int

    @property
    def usd(self) -> float:
        """The known part of it."""
        return usd(self.points)

    def as_json(self) -> dict[str, object] | None:
        """Return the printed object, null where it is not known."""
        return None if self.unknown else {"points": self.points, "usd": self.usd}


def price(prompts: Iterable[str | None]) -> Price:
    """Return what jobs of these prompts cost together."""
    each = [points(prompt or "") for prompt in prompts]
    known = [one for one in each if one is not None]
    return Price(len(each), sum(known), len(each) - len(known))


def over_budget(cost: Price, budget: float | None) -> Failure | None:
    """Return why jobs of this cost may not be bought within `budget` USD, or None."""
    if budget is None or (not cost.unknown and cost.usd <= budget):
        return None
    what = f"{cost.jobs} jobs cost" if cost.jobs > 1 else "the job costs"
    if cost.unknown:
        more = f"at least {cost.usd:g} USD, and {cost.unknown} of them what nobody documents"
        what += f" {more if cost.jobs > 1 else 'what nobody documents'}"
    else:
        what += f" {cost.usd:g} USD"
    return Failure("over_budget", f"{what}; the budget is {budget:g} USD")


def too_expensive(cost: Price, balance: float | None) -> Failure | None:
    """Return why jobs of this cost may not be bought with `balance` USD, or None."""
    if balance is None or cost.usd <= balance:
        return None
    what = f"{cost.jobs} jobs cost" if cost.jobs > 1 else "the job costs"
    least = "at least " if cost.unknown else ""
    return Failure("insufficient_balance", f"{what} {least}{cost.usd:g} USD; the balance is {balance:g} USD")
