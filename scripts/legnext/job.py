"""A job as the API sends it, cleaned; which statuses end it; what it cost.

"Recorded": seen in an answer of the live API; other facts are from its reference.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeGuard

# The reference says UUID, the API description string. It goes into URLs and paths.
JOB_ID = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
A_JOB_ID = "1 to 128 of A-Z a-z 0-9 - _"
MAX_IMAGES = 24  # drafts of V8 have 24, everything else 4
NORMAL_IMAGES = 4
SUCCEEDED, FAILED = ("completed",), ("failed",)  # any other: not finished
ERROR_FIELDS = ("message", "raw_message", "detail", "logs", "error_messages")


class Job(NamedTuple):
    """One job. URLs are as received, in that order; nothing empty is kept."""

    job_id: str
    status: str
    image_url: str = ""
    image_urls: tuple[str, ...] = ()
    seed: str = ""
    meta: Mapping[str, Any] = {}
    code: int | None = None  # of its failure, such as 10000
    reason: str = ""  # likewise

    @property
    def has_succeeded(self) -> bool:
        return self.status in SUCCEEDED

    @property
    def has_failed(self) -> bool:
        return self.status in FAILED

    @property
    def is_final(self) -> bool:
        return self.has_succeeded or self.has_failed

    @property
    def is_over(self) -> bool:
        """Whether the wait is over: pictures may come later than `completed`."""
        return self.has_failed or (self.has_succeeded and bool(self.urls))

    @property
    def has_few_images(self) -> bool:
        """Whether some pictures are probably still to come."""
        return self.has_succeeded and len(self.image_urls) < NORMAL_IMAGES

    @property
    def urls(self) -> dict[str, str]:
        """The pictures' URLs by their files' names: grid, 1, 2 and so on."""
        named = {str(number): url for number, url in enumerate(self.image_urls, 1)}
        return {"grid": self.image_url, **named} if self.image_url else named

    @property
    def cost_usd(self) -> float | None:
        """What it cost, None if it is not over or does not say. 1000 points are 1 USD."""
        points = mapping(self.meta.get("usage")).get("consume")
        if not self.is_final or not is_number(points) or points < 0:
            return None
        return round(points / 1000, 3)

    def as_json(self) -> dict[str, Any]:
        urls = {"image_url": self.image_url, "image_urls": list(self.image_urls)}
        output = without_empty({**urls, "seed": self.seed}) if self.has_succeeded else None
        body = {"job_id": self.job_id, "status": self.status, "cost_usd": self.cost_usd}
        return without_empty({**body, "output": output, "meta": self.meta})

    def as_record(self) -> dict[str, Any]:
        error = {"error": {"code": self.code, "message": self.reason}} if self.reason else {}
        return {**self.as_json(), **error}


def parse_job(body: object, job_id: str) -> Job:
    """Return the job in an answer of the API, or in a record.

    Raises ValueError if it has no status or is another job's: a gateway may mix up two answers.
    Every success has `"error": {"code": 0}` (recorded): only the status says what failed.
    """
    if not isinstance(body, dict):
        raise ValueError("not an object")
    named, status = text(body.get("job_id")), text(body.get("status"))
    # A gateway has a status of its own: what failed has to be named.
    if (named or status in FAILED) and named.lower() != job_id.lower():
        raise ValueError(f"it is about another job, {named[:80]!r}")
    if not status:
        raise ValueError("no status")
    output, meta = mapping(body.get("output")), without_empty(body.get("meta"))
    if "usage" in meta:
        meta["usage"] = without_empty(meta["usage"])
    urls, seed = output.get("image_urls"), output.get("seed")
    code, reason = error_words(body) if status in FAILED else (None, "")
    return Job(
        job_id=job_id,
        status=status,
        image_url=text(output.get("image_url")),
        image_urls=tuple(filter(text, urls[:MAX_IMAGES])) if isinstance(urls, list) else (),
        seed=str(seed) if is_number(seed) else text(seed),
        meta=meta,
        code=code,
        reason=reason or ("the API gave no reason" if status in FAILED else ""),
    )


def recorded_job(record: dict[str, Any]) -> Job:
    """Return the job of a record; one that was only submitted is pending."""
    status = text(record.get("status")) or "pending"
    return parse_job({**record, "status": status}, record.get("job_id", ""))


def error_words(body: object) -> tuple[int | None, str]:
    """Return code and message, wherever the API put them; (None, "") if nowhere."""
    raw = mapping(body)
    places = [raw.get("error"), raw, raw.get("output")]
    codes = [mapping(place).get("code") for place in places]
    words = [words for place in places for words in texts_in(place)][:50]  # some send a whole log
    # raw_message often says the same as message, sometimes more
    distinct = [w for w in dict.fromkeys(words) if not any(w != o and w in o for o in words)]
    return next((c for c in codes if type(c) is int and c), None), "; ".join(distinct)


def texts_in(place: object) -> Iterator[str]:
    """Yield a text, or those in the ERROR_FIELDS of an object."""
    for part in [place] if isinstance(place, str) else map(mapping(place).get, ERROR_FIELDS):
        for words in part if isinstance(part, list) else [part]:
            if words:
                yield words.strip() if isinstance(words, str) else json.dumps(words)


def parse_time(stamp: object) -> datetime | None:
    """Return a time with its zone, None if it cannot be read."""
    try:  # Python 3.10 reads neither Z nor nine digits of a second (recorded)
        time = datetime.fromisoformat(re.sub(r"\.\d+", "", text(stamp)).replace("Z", "+00:00"))
        return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def age_seconds(stamp: object) -> float | None:
    then = parse_time(stamp)
    return None if then is None else (datetime.now(timezone.utc) - then).total_seconds()


def is_job_id(value: object) -> bool:
    return isinstance(value, str) and JOB_ID.fullmatch(value) is not None


def is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float) and -1e15 < value < 1e15  # type: ignore[operator]


def usd(value: object) -> float | None:
    return float(value) if is_number(value) else None


def load_json(content: str | bytes) -> Any:
    """Parse JSON; what it does not know, NaN and infinity, becomes null. Raises ValueError."""
    return json.loads(content, parse_constant=lambda _: None, parse_float=finite)


def finite(digits: str) -> float | None:
    return number if math.isfinite(number := float(digits)) else None


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def without_empty(value: object) -> dict[str, Any]:
    """Return an object without what is empty, null or a zero time; 0 and false stay."""
    parts = mapping(value).items()
    return {n: part for n, part in parts if (part or part == 0) and part != "0001-01-01T00:00:00Z"}
