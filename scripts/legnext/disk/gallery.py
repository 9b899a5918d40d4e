"""The gallery: what is known of some jobs in, one self-contained HTML page out. Nothing is read or sent."""

from __future__ import annotations

import hashlib
import html
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from string import Template
from typing import NamedTuple
from urllib.parse import quote


class Card(NamedTuple):
    """What the page shows of one job.

    Times are ISO 8601 in UTC; one that cannot be read is shown as it is. Points are those consumed or frozen.
    A status other than "completed" and "failed" means "not finished". Paths are relative to the page, with
    forward slashes. The remote URLs are offered as links where pictures are missing; the page itself
    never loads them.
    """

    job_id: str
    status: str
    prompt: str | None
    seed: str | None
    submitted_at: str | None
    ended_at: str | None
    points: int | None
    error: str | None
    grid: str | None
    images: tuple[str, ...]
    image_urls: tuple[str, ...] = ()


class Html(str):
    """Markup, as opposed to text that has to be escaped."""

    __slots__ = ()


_NO_HTML = re.compile("[\0\ud800-\udfff]")
_FLAGS = re.compile(r"(?<!\S)--[a-z]")
_RATIO = re.compile(r"(?<!\S)--(?:ar|aspect)\s+([1-9][0-9]{0,3}):([1-9][0-9]{0,3})(?!\S)")
_EPOCH = datetime.fromtimestamp(0, timezone.utc)

_SOURCE = re.split(r"<!-- part (\w+) -->\n", Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
_PARTS = {name: Template(text) for name, text in zip(_SOURCE[1::2], _SOURCE[2::2], strict=True)}


def clean(text: str) -> str:
    """Return TEXT with U+FFFD for what no HTML page can hold: NUL and lone surrogates."""
    return _NO_HTML.sub("\ufffd", text)


def render(cards: Iterable[Card]) -> str:
    """Return the whole page for CARDS, newest first; it encodes to UTF-8 whatever they hold."""
    newest_first = sorted(cards, key=lambda card: (_when(card) or _EPOCH, card.job_id), reverse=True)
    states = Counter(_state(card) for card in newest_first)
    count = f"{len(newest_first)} job{'s' * (len(newest_first) != 1)}"
    tally = [f"{states[state]} {state}" for state in ("completed", "running", "failed") if states[state]]
    style, script = _PARTS["style"].substitute(), _PARTS["script"].substitute()
    return _fill(
        "page",
        count=count,
        summary=": ".join(filter(None, (count, ", ".join(tally)))),
        cards=_join(map(_card, newest_first)) or _fill("empty"),
        style=Html(style),
        style_hash=_hash(style),
        script=Html(script),
        script_hash=_hash(script),
    )


def _card(card: Card) -> Html:
    grid = _fill("grid", path=_path(card.grid)) if card.grid else Html()
    if card.prompt:
        flags = _FLAGS.search(card.prompt)
        cut = flags.start() if flags else len(card.prompt)
        prompt = _fill("prompt", words=card.prompt[:cut], flags=card.prompt[cut:], grid=grid)
    else:
        prompt = _fill("no_prompt", grid=grid)
    facts = {
        "Status": _fill("status", status=card.status),
        "Time": _time(card),
        "Seed": card.seed and _fill("text", text=card.seed),
        "Points": None if card.points is None else str(card.points),
        "Job": _fill("text", text=card.job_id),
    }
    return _fill(
        "card",
        job_id=card.job_id,
        state=_state(card),
        prompt=prompt,
        facts=_join(_fill("fact", name=name, value=value) for name, value in facts.items() if value),
        body=_join((_pictures(card), _note(card))),
    )


def _pictures(card: Card) -> Html:
    if not card.images:
        return Html()
    prompt = card.prompt or ""
    short = prompt if len(prompt) <= 120 else prompt[:119] + "…"  # a screen reader reads it for every picture
    # The shape the prompt asks for holds the place until the file is there; then the file's own shape counts.
    asked = _RATIO.search(prompt)
    width, height = (int(asked[1]), int(asked[2])) if asked else (1, 1)
    if not height / 8 <= width <= height * 8:
        width = height = 1
    roomy = len(card.images) == 1 or (len(card.images) <= 4 and width > height * 1.2)
    pictures = []
    for path in card.images:
        number = PurePosixPath(path).stem
        alt = f"Picture {number}: {short}" if short else f"Picture {number}"
        size = {"width": str(width), "height": str(height)}
        pictures.append(_fill("picture", path=_path(path), alt=alt, number=number, **size))
    return _fill("pictures", layout="roomy" if roomy else "dense", pictures=_join(pictures))


def _note(card: Card) -> Html:
    """Say below the pictures, or in their place, what failed, runs or is missing."""
    if _state(card) == "failed":
        return _fill("note", text=card.error or "The job failed and gave no reason.")
    if _state(card) == "running":
        return _fill("note", text="Not finished yet. Reload this page later to see the pictures.")
    missing = (
        "Some pictures are not in this folder." if card.images else "The pictures are not in this folder."
    )
    if len(card.images) < len(card.image_urls):
        links = [
            _fill("link", url=url, number=str(number))
            for number, url in enumerate(card.image_urls, 1)
            if url.lower().startswith(("https://", "http://"))  # never javascript:
        ]
        return _fill("links", text=missing, links=_join(links))
    return Html() if card.images else _fill("note", text=missing)


def _state(card: Card) -> str:
    return card.status if card.status in ("completed", "failed") else "running"


def _parse(iso: str | None) -> datetime | None:
    """Read ISO as an aware time without its fraction, or None."""
    try:
        # Python 3.10 reads neither "Z" nor nanoseconds.
        time = datetime.fromisoformat(re.sub(r"\.[0-9]+", "", iso or "").replace("Z", "+00:00"))
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def _when(card: Card) -> datetime | None:
    return _parse(card.submitted_at) or _parse(card.ended_at)


def _time(card: Card) -> Html | None:
    if when := _when(card):
        iso = when.isoformat()[:19]
        return _fill("time", iso=f"{iso}Z", shown=f"{iso[:16].replace('T', ' ')} UTC")
    raw = card.submitted_at or card.ended_at
    return _fill("text", text=raw) if raw else None


def _path(path: str) -> str:
    """Link to PATH, relative to the page whatever PATH holds: a scheme, a query, two slashes in front."""
    return "./" + quote(clean(path))


def _hash(text: str) -> str:
    """Name the inline TEXT for the Content-Security-Policy, which then allows it and no other."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _join(parts: Iterable[str]) -> Html:
    return Html("".join(parts))


def _fill(part: str, **values: str) -> Html:
    """Fill PART of the template; values are escaped unless they are Html."""
    return Html(
        _PARTS[part].substitute(
            {name: value if isinstance(value, Html) else _escape(value) for name, value in values.items()}
        )
    )


def _escape(text: str) -> str:
    # A bare carriage return would come back as a line feed.
    return html.escape(clean(text)).replace("\r", "&#13;")
