"""May this be bought: `--budget`, LEGNEXT_MAX_USD, the balance.

Prices are in USD, None if they are not known.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from legnext.errors import Failure
from legnext.job import age_seconds, recorded_job, usd

DAY_SECONDS = 86_400.0
ROUNDING = 1e-6  # three times 0.08 is not 0.24

Prices = Sequence[float | None]
Records = Iterable[dict[str, Any]]


class Block(NamedTuple):
    """Why nothing may be bought, and the numbers."""

    failure: Failure
    facts: dict[str, Any]


def total(prices: Prices) -> float | None:
    """Return the sum, None if a price is not known."""
    return None if None in prices else round(sum(filter(None, prices)), 3)


def affordable(prices: Prices, limit: float) -> int:
    """Return how many, in order, fit into a limit."""
    for number, price in enumerate(prices):
        if price is None or price > limit + ROUNDING:
            return number
        limit -= price
    return len(prices)


def over_limit(prices: Prices, limit: float, name: str, spent: float = 0.0) -> Block | None:
    """Return why the prices do not fit into a limit, or None."""
    price = total(prices)
    if price is not None and price + spent <= limit + ROUNDING:
        return None
    words = "an unknown price fits no limit" if price is None else f"the price is {price:g} USD"
    words += f", {name} is {limit:g} USD"
    words += f", of which {spent:g} USD were spent in the last 24 hours" if spent else ""
    left = affordable(prices, limit - spent)
    facts = {"price_usd": price, "budget_usd": limit, "affordable": left}
    return Block(Failure("over_budget", words), facts)


def over_balance(prices: Prices, balance: float) -> Block | None:
    """Return why the balance does not cover the prices, or None."""
    price = total(prices)
    if price is None or price <= balance + ROUNDING:
        return None
    words = f"the price is {price:g} USD, the balance {balance:g} USD"
    facts = {"price_usd": price, "balance_usd": balance, "affordable": affordable(prices, balance)}
    return Block(Failure("insufficient_balance", words), facts)


def over_daily_limit(
    prices: Prices, limit: float | None, jobs: Records, submits: Records
) -> Block | None:
    """Return why the prices do not fit into LEGNEXT_MAX_USD, or None.

    The last 24 hours count: jobs on record, and submits of unknown outcome.
    """
    if limit is None:
        return None
    spent = 0.0
    for record in [*jobs, *submits]:
        age, job = age_seconds(record.get("submitted_at")), recorded_job(record)
        if age is not None and age < DAY_SECONDS and not (job.has_failed and not job.cost_usd):
            price = usd(record.get("price_usd"))
            spent += (price or 0.0) if job.cost_usd is None else job.cost_usd
    return over_limit(prices, limit, "LEGNEXT_MAX_USD", round(spent, 3))
