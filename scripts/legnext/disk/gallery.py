"""The gallery: the jobs of an output directory on one self-contained HTML page. Nothing is sent."""

from __future__ import annotations

import hashlib
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from urllib.parse import quote

from legnext.disk.files import write_whole
from legnext.disk.output_dir import OutputDir, Record
from legnext.errors import Failure
from legnext.job import is_moderation


class Picture(NamedTuple):
    """One picture of a job: the path relative to the page, with forward slashes, or None where it is missing.

    Of a missing one the page offers the remote URL as a link; the page itself never loads it.
    """

    number: int
    path: str | None
    url: str | None = None


class Card(NamedTuple):
    """What the page shows of one job.

    Times are ISO 8601 in UTC; one that cannot be read is shown as it is. Points are those consumed once the
    job has ended, those frozen before; a failed job with 0 was not charged. A status other than "completed"
    and "failed" means "not finished". `grid` is a path as in Picture. `refused`: moderation is why it failed.
    `resume` is the shell command that goes on with the job where something is left to do, also while
    `waiting` says that a run is at it: the page shows it once that run can no longer be there.
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
    pictures: tuple[Picture, ...]
    refused: bool = False
    resume: str | None = None
    waiting: bool = False


class Html(str):
    """Markup, as opposed to text that has to be escaped."""

    __slots__ = ()


_NO_HTML = re.compile("[\0\ud800-\udfff]")
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_ESCAPED["\r"] = "&#13;"  # a bare carriage return would come back as a line feed
_SPECIAL = re.compile(f"[{''.join(_ESCAPED)}\0\ud800-\udfff]")
_FLAGS = re.compile(r"(?<!\S)--[a-z]")
_RATIO = re.compile(r"(?<!\S)--(?:ar|aspect)\s+([1-9][0-9]{0,3}):([1-9][0-9]{0,3})(?!\S)")
_EPOCH = datetime.fromtimestamp(0, timezone.utc)

_SOURCE = re.split(r"<!-- part (\w+) -->\n", Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
_RAW = dict(zip(_SOURCE[1::2], _SOURCE[2::2], strict=True))
# "%" takes a third of string.Template's time: thousands of jobs fill tens of thousands of parts.
_PARTS = {name: re.sub(r"\$(\w+)", r"%(\1)s", text.replace("%", "%%")) for name, text in _RAW.items()}


def clean(text: str) -> str:
    """Return TEXT with U+FFFD for what no HTML page can hold: NUL and lone surrogates."""
    return _NO_HTML.sub("\ufffd", text)


def render(
    cards: Iterable[Card], *, title: str, live_until: datetime | None = None, zone: tzinfo | None = None
) -> Iterator[str]:
    """Yield the page for CARDS in pieces, newest first; it encodes to UTF-8 whatever they hold.

    `title` is the folder's name. `live_until` (aware) says that a run is writing this folder and will have
    written the page again by then; None, that none is. A page in a file cannot ask whether its writer lives:
    it looks for a newer self until that time, and after it takes the run for dead. Days and times are those
    of `zone`, by default this machine's.
    """
    dated = [(_parse(card.submitted_at, zone) or _parse(card.ended_at, zone), card) for card in cards]
    dated.sort(key=lambda pair: (pair[0] or _EPOCH, pair[1].job_id), reverse=True)
    style, script = _RAW["style"], _RAW["script"]
    yield _fill(
        "page",
        title=title or "Gallery",  # "/" has no name
        state="live" if live_until else "",
        summary=_summary([card for _, card in dated]),
        live=_fill("live", until=_iso(live_until)) if live_until else Html(),
        frames=Html("; frame-src 'self' file:" if live_until else ""),
        style=Html(style),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
    if not dated:
        yield _fill("empty")
    loading = "eager"  # of the first job, so that its pictures do not wait for the end of a long page
    for day, group in groupby(dated, key=lambda pair: pair[0] and pair[0].date()):
        yield _fill("day", name=f"{day:%A}, {day.day} {day:%B %Y}" if day else "Day not known")
        for when, card in group:
            yield _card(card, when, zone, loading)
            loading = "lazy"
        yield _fill("day_end")
    yield _fill("end", script=Html(script))


def _summary(cards: list[Card]) -> str:
    """Say in a person's words what is on the page."""
    pictures = sum(picture.path is not None for card in cards for picture in card.pictures)
    failed = sum(card.status == "failed" for card in cards)
    unfinished = sum(_unfinished(card) for card in cards)
    said = [_count(pictures, "picture")] if pictures else []
    if len(cards) != 1 or not pictures:
        said.append(_count(len(cards), "job"))
    parts = [
        " from ".join(said),
        f"{unfinished} unfinished" * bool(unfinished),
        f"{failed} failed" * bool(failed),
    ]
    return ", ".join(filter(None, parts))


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _unfinished(card: Card) -> bool:
    """Say whether something of CARD is still to come: the job, its pictures or their files."""
    return card.status != "failed" and (
        card.status != "completed"
        or not (card.pictures or card.grid)
        or any(picture.path is None for picture in card.pictures)
    )


def _card(card: Card, when: datetime | None, zone: tzinfo | None, loading: str) -> Html:
    prompt = card.prompt or ""
    flags = _FLAGS.search(prompt)
    cut = flags.start() if flags else len(prompt)
    state = "failed" if card.status == "failed" else "open" if _unfinished(card) else "done"
    said = [
        _fill(f"{state}_state") if state != "done" else None,
        _fill("time", iso=_iso(when), shown=f"{when.day} {when:%b %Y, %H:%M}")
        if when
        else _bdi(card.submitted_at or card.ended_at),
        _bdi(_price(card)),
        _bdi(card.seed and f"Seed {card.seed}"),
    ]
    submitted, ended = _parse(card.submitted_at, zone), _parse(card.ended_at, zone)
    facts = {
        "Job": card.job_id,
        "Status": card.status,
        "Submitted": _moment(submitted) if submitted else card.submitted_at,
        "Ended": _moment(ended) if ended else card.ended_at,
        "Points": None if card.points is None else str(card.points),
    }
    return _fill(
        "card",
        job_id=card.job_id,
        state=f"{state} waiting" if card.waiting else state,
        prompt=_fill("prompt", words=prompt[:cut], flags=prompt[cut:]) if prompt else _fill("no_prompt"),
        line=Html(" · ".join(filter(None, said))),
        facts="\n".join(f"{name}: {fact}" for name, fact in facts.items() if fact),
        copy=_fill("copy") if prompt else Html(),
        grid=_fill("grid", path=_path(card.grid)) if card.grid else Html(),
        body=_join((_pictures(card, loading), _note(card))),
    )


def _pictures(card: Card, loading: str) -> Html:
    prompt = card.prompt or ""
    short = prompt if len(prompt) <= 120 else prompt[:119] + "…"  # a screen reader reads it for every picture
    # The shape the prompt asks for holds the place until the file is there; then the file's own shape counts.
    asked = _RATIO.search(prompt)
    wide, high = (int(asked[1]), int(asked[2])) if asked else (1, 1)
    if not high / 8 <= wide <= high * 8:
        wide = high = 1
    size = {"width": str(wide), "height": str(high)}
    shown = card.pictures or (Picture(1, card.grid),) * bool(card.grid)  # some come with nothing but the grid
    frames = []
    for number, path, url in shown:
        if path is not None:
            alt = f"Picture {number}: {short}" if short else f"Picture {number}"
            frames.append(
                _fill("picture", path=_path(path), alt=alt, number=str(number), loading=loading, **size)
            )
        else:
            safe = url if url and url.lower().startswith(("https://", "http://")) else ""  # never javascript:
            link = _fill("link", url=safe) if safe else Html()
            frames.append(_fill("missing", link=link, number=str(number), **size))
    layout = "dense"
    if not frames:
        if not card.waiting:
            return Html()
        frames, layout = [_fill("to_come", **size)] * 4, "awaited"
    elif any(picture.path for picture in shown) and (
        len(frames) == 1 or (len(frames) <= 4 and wide > high * 1.2)
    ):
        layout = "roomy"
    return _fill("pictures", layout=layout, pictures=_join(frames))


def _note(card: Card) -> Html:
    """Say below the pictures, or in their place, what failed or is to come, and what can be done."""
    if card.status == "failed":
        said = card.error or "Legnext gave no reason."
        advice = "refused" if card.refused else "retry"
        return _fill(
            "failed", error=said, charged=_fill("free") if card.points == 0 else Html(), advice=_fill(advice)
        )
    if not _unfinished(card):
        return Html()
    left = "left" if card.status != "completed" else "not_fetched" if card.pictures else "no_pictures"
    command = _fill("command", command=card.resume) if card.resume else Html()
    return _fill("later", text=_fill(left), command=command)


def _price(card: Card) -> str | None:
    """Return the price in USD, of which one is 1000 points."""
    if card.points is None or card.points < 0:
        return None
    if card.points == 0 and card.status == "failed":
        return "Not charged"
    dollars, mills = divmod(card.points, 1000)
    return f"${dollars:,}.{mills:03}".removesuffix("0")


def _parse(iso: str | None, zone: tzinfo | None) -> datetime | None:
    """Read ISO as a time in ZONE, without its fraction, or None."""
    try:
        # Python 3.10 reads neither "Z" nor nanoseconds.
        time = datetime.fromisoformat(re.sub(r"\.[0-9]+", "", iso or "").replace("Z", "+00:00"))
        return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(zone)
    except (ValueError, OverflowError, OSError):  # OSError: Windows knows no local time before 1970
        return None


def _iso(time: datetime) -> str:
    return f"{time.astimezone(timezone.utc).isoformat()[:19]}Z"


def _moment(time: datetime) -> str:
    return _iso(time)[:19].replace("T", " ") + " UTC"


def _path(path: str) -> str:
    """Link to PATH, relative to the page whatever PATH holds: a scheme, a query, two slashes in front."""
    return "./" + quote(clean(path))


def _hash(text: str) -> str:
    """Name the inline TEXT for the Content-Security-Policy, which then allows it and no other."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _join(parts: Iterable[str]) -> Html:
    return Html("".join(parts))


def _bdi(text: str | None) -> Html | None:
    return _fill("bdi", text=text) if text else None


def _fill(part: str, **values: str) -> Html:
    """Fill PART of the template; values are escaped unless they are Html."""
    return Html(
        _PARTS[part]
        % {name: value if isinstance(value, Html) else _escape(value) for name, value in values.items()}
    )


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: _ESCAPED.get(found[0], "\ufffd"), text)


# --- The page of a directory, while a run goes on

# It is written whole: with thousands of jobs rather a little late than all the time.
_SHARE = 20
_REST_SECONDS = 1.0
# A run that waits writes it this often; a page that is four times as old has lost its writer.
_ALIVE_SECONDS = 30.0


class Gallery:
    """Writes the page of a directory as its jobs change. Safe to use from threads; never raises."""

    def __init__(self, directory: OutputDir, resume: Callable[[str], str]) -> None:
        """`resume` gives the shell command that goes on with a job, by its id."""
        self._directory = directory
        self._resume = resume
        self._waiting: set[str] = set()
        self._lock = Lock()
        self._stale = False
        self._written = 0.0
        self._rests_until = 0.0

    def waits(self, job_id: str) -> None:
        """Note that this run waits for a job; call it at each look, so that the page stays alive."""
        self._waiting.add(job_id)
        # What changed while the page rested is shown once it has: nothing else may change for long.
        if self._stale or time.monotonic() > self._written + _ALIVE_SECONDS:
            self.changed()

    def ended(self, job_id: str) -> None:
        """Note that this run does not wait for it any longer."""
        self._waiting.discard(job_id)

    def changed(self) -> None:
        """Write the page, as something on it has changed; it rests in between, in proportion to its size."""
        self._stale = True
        if time.monotonic() >= self._rests_until and self._lock.acquire(blocking=False):
            try:
                began = time.monotonic()
                self._write(live=True)
                self._written = time.monotonic()
                self._rests_until = self._written + max(_REST_SECONDS, _SHARE * (self._written - began))
            finally:
                self._lock.release()

    def close(self) -> None:
        """Write the page for the last time in this run, if anything on it is out of date."""
        with self._lock:
            if self._stale or self._written:
                self._waiting.clear()
                self._write(live=False)

    def _write(self, *, live: bool) -> None:
        self._stale = False
        until = datetime.now(timezone.utc) + timedelta(seconds=4 * _ALIVE_SECONDS) if live else None
        directory = self._directory
        try:
            cards = [self._card_of(record) for record in directory.records()]
            page = render(cards, title=directory.path.name or str(directory.path), live_until=until)
            write_whole(directory.gallery, (piece.encode() for piece in page))
        except OSError as error:
            directory.warn(f"the gallery could not be written: {error.strerror or error}")
        except Failure as failure:
            directory.warn(f"the gallery could not be written: {failure.message}")

    def _card_of(self, record: Record) -> Card:
        job = record.job
        there = self._directory.names_of_pictures(job.job_id)
        paths = {stem: f"{job.job_id}/{name}" for stem, name in there.items()}
        numbers = {*range(1, len(job.image_urls) + 1), *(int(stem) for stem in paths if stem.isdecimal())}
        urls = dict(enumerate(job.image_urls, 1))
        pictures = tuple(Picture(n, paths.get(str(n)), urls.get(n)) for n in sorted(numbers))
        usage, ended_at = job.meta.get("usage"), job.meta.get("ended_at")
        points = usage.get("consume" if job.ended else "frozen") if isinstance(usage, dict) else None
        left = not job.ended or (job.completed and not (pictures and all(p.path for p in pictures)))
        return Card(
            job_id=job.job_id,
            status=job.status,
            prompt=record.prompt,
            seed=job.seed,
            submitted_at=record.submitted_at,
            ended_at=ended_at if isinstance(ended_at, str) else None,
            points=points if isinstance(points, int) else None,
            error=job.error.message if job.error else None,
            grid=paths.get("grid"),
            pictures=pictures,
            refused=bool(job.error and is_moderation(job.error.message)),
            resume=self._resume(job.job_id) if left else None,
            waiting=job.job_id in self._waiting,
        )
