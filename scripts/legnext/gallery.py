"""The gallery: the jobs of a folder on one HTML page, which loads only their pictures."""

import contextlib
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from legnext.job import FAILED, SUCCEEDED, mapping, parse_time, text
from legnext.records import write_whole

Job = dict[str, Any]  # see `write`
Files = dict[str, str | None]  # by "grid", "1", …: a picture's file name, None if it is missing
SOURCE = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
OURS = b"img-src 'self' file:"  # begins a page, also of version 2
STEPS = range(10, 41)  # ratios that the styles know: 0.5 to 2, in twentieths
RATIOS = "\n".join(f".r{step} {{ --ratio: {step / 20}; }}" for step in STEPS)
PAGE = SOURCE.partition("\n<!-- Parts")[0].replace("/* ratios */", RATIOS)
PARTS = re.findall(r'<template id="(\w+)">\n?(.*?)</template>', SOURCE, re.DOTALL)
TEMPLATES = {  # a name that follows a dollar sign is filled in
    name: re.sub(r"\$(\w+)", r"%(\1)s", text.replace("%", "%%"))
    for name, text in [("page", PAGE), *PARTS]
}
HASHES = {  # of all that the page's policy allows
    f"{tag}_hash": b64encode(sha256(text.encode()).digest()).decode()
    for tag, text in re.findall(r"<(style|script)>(.*?)</\1>", PAGE, re.DOTALL)
}
NOT_IN_HTML = re.compile("[\0\ud800-\udfff]")
FLAGS = re.compile(r"(?<!\S)(?=--[a-z])")
RATIO = re.compile(r"(?<!\S)--(?:ar|aspect)\s+([1-9]\d{0,3}):([1-9]\d{0,3})(?!\S)", re.ASCII)
LONG = 300  # characters of a prompt; a longer one is folded


class Html(str):
    """Markup; other text is escaped on its way into the page."""


GAP = Html("\0")  # a place that is filled later; no text has it


def write(path: Path, jobs: Iterable[Job]) -> None:
    """Write the page whole, if there is not somebody's own. Raises OSError.

    A job is its record (if `downloaded`, what is missing now was deleted by a person), `folder`
    (name), `pictures` (Files), `urls`, `resume` (shell command or None).
    """
    with contextlib.suppress(FileNotFoundError):
        if OURS not in path.read_bytes()[:300]:
            raise FileExistsError(path)
    title = path.absolute().parent.name or path.name
    write_whole(path, (piece.encode() for piece in render(jobs, title)))


def render(jobs: Iterable[Job], title: str) -> Iterator[str]:
    """Yield the page in pieces: whole, it may take much memory."""
    rows = [(submitted(job), job, *view(job)) for job in jobs]
    rows.sort(key=lambda row: row[0], reverse=True)
    pictures = sum(bool(file) for *_, files in rows for file in files.values())
    states = [state for _, _, state, _ in rows if state]
    summary = [
        f"{pictures:,} picture{'s' * (pictures != 1)}",
        f"{len(rows):,} job{'s' * (len(rows) != 1)}",
        *(f"{states.count(state):,} {state.lower()}" for state in sorted({*states})),
        format_usd(0, *(job.get("cost_usd") for _, job, *_ in rows)),
    ]
    page = fill("page", title=title, summary=" · ".join(summary), days=GAP, **HASHES)
    start, end = page.split(GAP)
    yield start
    for day, group in groupby(rows, key=lambda row: row[0][1]):
        start_of_day, end_of_day = fill("day", day=day, jobs=GAP).split(GAP)
        yield start_of_day
        for (*_, time), job, state, files in group:
            yield show_job(job, time, state, files)
        yield end_of_day
    yield end


def show_job(job: Job, time: str, state: str, files: Files) -> Html:
    prompt, path = text(job.get("prompt")), quote(os.fsencode(job["folder"]))
    words, *flags = FLAGS.split(prompt or "No prompt on record", maxsplit=1)
    heading = fill("heading", words=words, flags="".join(flags))
    seed = text(mapping(job.get("output")).get("seed"))
    reason = text(mapping(job.get("error")).get("message"))
    facts = [time, format_usd(job.get("cost_usd")), seed and f"Seed {seed}"]
    part, note = ("reason", reason) if state == "Failed" else ("resume", state and job["resume"])
    grid = job["pictures"].get("grid")
    return fill(
        "job",
        state=state,
        heading=fill("folded", heading=heading) if len(prompt) > LONG else heading,
        facts="".join(f"{fact} · " for fact in facts if fact),
        folder=job["folder"],
        path=path,
        copy=fill("copy") if prompt else "",
        grid=fill("grid", path=f"{path}/{grid}") if grid else "",
        pictures=show_pictures(job, prompt, path, files),
        note=fill(part, text=note) if note else "",
    )


def show_pictures(job: Job, prompt: str, folder: str, files: Files) -> Html:
    ratio, frames = RATIO.search(prompt), []
    width, height = ratio.groups() if ratio else ("1", "1")  # keep the place until it is loaded
    same = {"prompt": to_html(prompt[:120]), "width": Html(width), "height": Html(height)}
    for name, file in files.items():
        if file:
            frames.append(fill("picture", name=name, path=f"{folder}/{file}", **same))
        else:
            url = job["urls"].get(name, "")
            link = fill("link", url=url) if re.match("https?://", url) else ""  # no javascript:
            frames.append(fill("missing", name=name, link=link))
    step = min(STEPS[-1], max(STEPS[0], 20 * int(width) // int(height)))
    shape = "wide" if step > 20 else "square" if step == 20 else "upright"
    return fill("pictures", shape=f"{shape} r{step}", pictures=Html("".join(frames)))


def view(job: Job) -> tuple[str, Files]:
    """Return a job's state in a word ("" if it is done) and the pictures to show, by name."""
    files = {n: file for n, file in job["pictures"].items() if file or not job.get("downloaded")}
    # The grid is shown as a picture only if it is missing or alone.
    shown = {n: file for n, file in files.items() if n != "grid" or not file} or files
    if job["status"] not in SUCCEEDED:
        return "Failed" if job["status"] in FAILED else "Unfinished", shown
    has_all = job.get("downloaded") or (files and all(files.values()))
    return "" if has_all else "Incomplete", shown


def submitted(job: Job) -> tuple[float, str, str]:
    """Return when a job was submitted: to sort by, and as day and time by the local clock."""
    time = parse_time(job.get("submitted_at"))
    if time is None or not 1980 < time.year < 9000:  # systems differ in what they can place
        return 0, "Date unknown", text(job.get("submitted_at"))
    time = time.astimezone()
    day = f"{time:%A}, {time.day} {time:%B %Y}"
    return time.timestamp(), day, f"{time.day} {time:%b %Y, %H:%M}"


def format_usd(*usd: object) -> str:
    """Return the sum in dollars and cents, and tenths of a cent if any; "" if none is known."""
    known = [cost for cost in usd if isinstance(cost, (int, float)) and 0 <= cost < 1e9]
    return f"${sum(known):,.3f}".removesuffix("0") if known else ""


def to_html(words: str) -> Html:
    return Html(escape(NOT_IN_HTML.sub("\ufffd", words)).replace("\r", "&#13;"))


def fill(part: str, **values: str) -> Html:
    for name, value in values.items():
        if not isinstance(value, Html):
            values[name] = to_html(value)
    return Html(TEMPLATES[part] % values)
