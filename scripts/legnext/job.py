"""A job as the API tells it, made clean; which statuses end it."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

# The reference says UUID, the vendor's API description says string: a paid job with an odd id must not be
# lost. The id becomes a path in a URL and the name of a folder, so no more than these characters.
JOB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}", re.ASCII)
A_JOB_ID = "1 to 128 of A-Z a-z 0-9 - _, such as 89fc70ee-0357-4dab-98e7-d3383e2efd1b"

# 4 is the rule, 24 the most that was seen (V8 drafts); a body with 200,000 would hold up a run for hours.
MOST_IMAGES = 100

ENDED = ("completed", "failed")
"""Every other status, documented or not, means "not finished"."""

_MODERATION = re.compile(
    r"banned|prohibit|content policy|nsfw|sensitive content|content moderation", re.IGNORECASE
)
_ZERO_TIME = "0001-01-01T00:00:00Z"
_TIMES = ("created_at", "started_at", "ended_at")
_USAGE = ("type", "frozen", "consume")


class JobError(NamedTuple):
    """Why a job failed; `code` may be a business code such as 10000 (recorded body), not an HTTP status."""

    code: int | None
    message: str


class Job(NamedTuple):
    """One job. URLs are exactly as received, in the order received; nothing empty is kept."""

    job_id: str
    status: str
    image_url: str | None = None
    image_urls: tuple[str, ...] = ()
    seed: str | None = None
    meta: dict[str, object] = {}  # noqa: RUF012 - never changed, and a tuple's default
    error: JobError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    @property
    def completed(self) -> bool:
        """Whether it is done; it may still be without images."""
        return self.status == "completed"

    @property
    def has_images(self) -> bool:
        """Whether there is anything to show: a completed job may come without (recorded bodies)."""
        return bool(self.image_url or self.image_urls)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to wait for: images can come later than `completed` (recorded bodies)."""
        return self.ended and (self.has_images or not self.completed)

    def as_json(self) -> dict[str, object]:
        """Return the printed object, without `prompt`, `files` and `error`."""
        job: dict[str, object] = {"job_id": self.job_id, "status": self.status}
        output = {
            "image_url": self.image_url,
            "image_urls": list(self.image_urls),
            "seed": self.seed,
        }
        output = {name: value for name, value in output.items() if value}
        if self.completed and output:
            job["output"] = output
        if self.meta:
            job["meta"] = self.meta
        return job


def is_moderation(message: str) -> bool:
    """Say whether these are the words of a refusal by moderation, as public clients have recorded them."""
    return _MODERATION.search(message) is not None


def is_job_id(text: object) -> bool:
    """Say whether `text` is what the API may call a job."""
    return isinstance(text, str) and JOB_ID.fullmatch(text) is not None


def parse_job(body: object, job_id: str) -> Job:
    """Make a clean Job of a body of `GET /api/v1/job/{job_id}` or of `POST /api/v1/diffusion`.

    Works with the bare bodies of the reference and with the recorded live ones, which carry
    `"error": {"code": 0}` on every success and zero times while pending. Raises ValueError where the body
    is not an object with a status, or tells of another job: a gateway that mixed up two answers would
    otherwise hand one job's pictures to another.
    """
    if not isinstance(body, dict):
        raise ValueError("not an object")
    told = body.get("job_id")
    if isinstance(told, str) and told.lower() != job_id.lower():
        raise ValueError(f"it tells of another job, {told[:80]!r}")
    status = body.get("status")
    if not isinstance(status, str) or not status:
        raise ValueError("no status")
    output = _dict(body.get("output"))
    urls = output.get("image_urls")
    return Job(
        job_id=job_id,
        status=status,
        image_url=_text(output.get("image_url")),
        image_urls=tuple(url for url in urls[:MOST_IMAGES] if _text(url)) if isinstance(urls, list) else (),
        seed=_seed(output.get("seed")),
        meta=_meta(_dict(body.get("meta"))),
        # Failure is the status alone: the presence of `error` says nothing.
        error=_error(_dict(body.get("error"))) if status == "failed" else None,
    )


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_plain(value: object) -> bool:
    # JSON has no NaN and no infinity, though Python reads them.
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _seed(value: object) -> str | None:
    number = _int(value)
    return _text(value) if number is None else str(number)


def _meta(raw: dict[str, object]) -> dict[str, object]:
    meta: dict[str, object] = {}
    for name in _TIMES:
        time = _text(raw.get(name))
        if time and time != _ZERO_TIME:
            meta[name] = time
    usage = _dict(raw.get("usage"))
    kept = {name: usage[name] for name in _USAGE if _is_plain(usage.get(name))}
    if kept:
        meta["usage"] = kept
    return meta


def _error(raw: dict[str, object]) -> JobError:
    code, message = error_words(raw)
    return JobError(code, message or "the job failed; the API gave no reason")


def error_words(body: object) -> tuple[int | None, str]:
    """Return (code, message) from either documented error shape; (None, "") where there is neither.

    Nested `{"error": {"code", "message"}}` and top-level `{"code", "message", "raw_message", "detail"}`;
    `raw_message` is added where it says something else, being sometimes the better text.
    """
    raw = _dict(body)
    nested = raw.get("error")
    if isinstance(nested, str):
        return _int(raw.get("code")), nested.strip()
    if isinstance(nested, dict):
        raw = nested
    texts: list[str] = []
    for name in ("message", "raw_message", "detail"):
        text = (_text(raw.get(name)) or "").strip()
        if text and not any(text in seen for seen in texts):
            texts.append(text)
    return _int(raw.get("code")), "; ".join(texts)
