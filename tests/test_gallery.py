"""The gallery page: what it shows, that no prompt can break out of it, and that a browser agrees."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from browser import Browser, new_page, program, started
from legnext.disk.gallery import Card, Picture, clean, render

DONE = Card(
    job_id="89fc70ee-0357-4dab-98e7-d3383e2efd1b",
    status="completed",
    prompt="a quiet harbour --ar 16:9",
    seed="2452171661",
    submitted_at="2026-11-22T20:15:00Z",
    ended_at="2026-11-22T20:15:31Z",
    points=80,
    error=None,
    grid="89fc/grid.png",
    pictures=tuple(Picture(n, f"89fc/{n}.png", f"https://cdn.example/{n}.png") for n in (1, 2, 3, 4)),
)
MISSING = DONE._replace(
    pictures=(DONE.pictures[0], Picture(2, None, "https://cdn.example/2.png?a=1&b=2"), *DONE.pictures[2:]),
    resume="uv run get_task.py",
)
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "--></style><script>alert(1)</script><!--",
    "\"><svg onload='alert(1)'>",
    'it\'s "quoted" & &amp; &lt; &#0;',
    "$name ${x} $$ $words {0} %s \\1",
    "nul \0 and surrogates \ud800 \udfff\ud83d",
    "\u202eright to left\u2066 never closed \u200f",
    "--ar 16:9 flags first, then more --no <b>",
    "\n\rlines\r\n\ttabs \x85\u2028\ufeff\uffff\x1b[31m",
    "静かな湖 🌅 مشهد",
    "w" * 8192,
]


def card(**changes: Any) -> Card:
    return DONE._replace(**changes)


class Page(HTMLParser):
    """The tags with the names of their attributes, the attributes' values, and each element's text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, ...]] = []
        self.values: dict[tuple[str, str], list[str]] = {}
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        page.encode("utf-8")
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.shape.append((tag, *(name for name, _ in attrs)))
        for name, value in attrs:
            self.values.setdefault((tag, name), []).append(value or "")
        self.texts.setdefault(tag, []).append("")
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:  # noqa: D102
        for tag in self.open:
            self.texts[tag][-1] += data


def gallery(*cards: Card, live_until: datetime | None = None) -> str:
    return "".join(render(cards, title="harbour", live_until=live_until, zone=timezone.utc))


def test_completed_job_shows_everything() -> None:
    page = Page(gallery(DONE))
    assert page.texts["title"] == page.texts["h1"] == ["harbour"]
    assert page.texts["h2"] == ["Sunday, 22 November 2026"]
    assert page.texts["h3"] == [DONE.prompt]
    said = " ".join(page.texts["summary"][0].split())
    assert said == "22 Nov 2026, 20:15 · $0.08 · Seed 2452171661"
    assert page.texts["details"][0].removeprefix(page.texts["summary"][0]).splitlines() == [
        f"Job: {DONE.job_id}",
        "Status: completed",
        "Submitted: 2026-11-22 20:15:00 UTC",
        "Ended: 2026-11-22 20:15:31 UTC",
        "Points: 80",
    ]
    assert page.values["time", "datetime"] == ["2026-11-22T20:15:00Z"]
    assert page.values["img", "src"] == [f"./89fc/{n}.png" for n in (1, 2, 3, 4)]
    assert page.values["img", "alt"] == [*(f"Picture {n}: {DONE.prompt}" for n in (1, 2, 3, 4)), ""]
    assert page.values["a", "href"] == ["./89fc/grid.png", *page.values["img", "src"]]
    two = Page(gallery(DONE, DONE))
    assert two.values["img", "loading"] == ["eager"] * 4 + ["lazy"] * 4  # the top of the page at once


def test_no_jobs() -> None:
    page = Page(gallery())
    assert page.texts["header"][0].split() == ["harbour", "0", "jobs"]
    assert Page("".join(render([], title=""))).texts["title"] == ["Gallery"]
    assert page.texts["main"][0].strip() == "There are no jobs in this folder yet."


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ([DONE], "4 pictures"),
        ([DONE] * 3, "12 pictures from 3 jobs"),
        ([card(status="pending", pictures=())], "1 job, 1 unfinished"),
        (
            [DONE, card(status="failed", pictures=()), MISSING],
            "7 pictures from 3 jobs, 1 unfinished, 1 failed",
        ),
        ([DONE] * 300, "1,200 pictures from 300 jobs"),
    ],
)
def test_summary_is_what_a_person_would_say(cards: list[Card], words: str) -> None:
    assert words in Page(gallery(*cards)).texts["p"]


def test_days_newest_first() -> None:
    cards = [
        card(prompt="third", submitted_at=None, ended_at="2026-11-22T20:15:00.123456789Z"),
        card(prompt="last", status="failed", submitted_at="yesterday", ended_at=None),
        card(prompt="first", status="pending", submitted_at="2026-11-23T00:17:00Z"),
        card(prompt="second", submitted_at="2026-11-23T01:59:00+02:00"),
    ]
    page = Page(gallery(*cards))
    assert page.texts["h3"] == ["first", "second", "third", "last"]
    assert page.texts["h2"] == ["Monday, 23 November 2026", "Sunday, 22 November 2026", "Day not known"]
    assert page.texts["time"] == ["23 Nov 2026, 00:17", "22 Nov 2026, 23:59", "22 Nov 2026, 20:15"]
    assert gallery(*cards) == gallery(*reversed(cards))
    ahead = Page("".join(render(cards, title="", zone=timezone(timedelta(hours=1)))))
    assert ahead.texts["h2"][0] == "Monday, 23 November 2026"
    assert ahead.texts["time"] == ["23 Nov 2026, 01:17", "23 Nov 2026, 00:59", "22 Nov 2026, 21:15"]
    assert ahead.values["time", "datetime"] == page.values["time", "datetime"]


@pytest.mark.parametrize(
    ("changes", "price"),
    [
        ({"points": 80}, "$0.08"),
        ({"points": 8}, "$0.008"),
        ({"points": 12_345_670}, "$12,345.67"),
        ({"points": 0}, "$0.00"),
        ({"points": 0, "status": "failed"}, "Not charged"),
        ({"points": -1}, None),
        ({"points": None}, None),
    ],
)
def test_price(changes: dict[str, Any], price: str | None) -> None:
    said = Page(gallery(card(**changes, seed=None, submitted_at=None, ended_at=None))).texts["summary"][0]
    assert said.replace("Failed", "").strip(" ·\n") == (price or "")


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"status": "failed", "error": "Banned <word> & more", "refused": True}, "failed", "in other words"),
        ({"status": "failed", "error": "Banned <word> & more"}, "failed", "Banned <word> & more"),
        ({"status": "failed"}, "failed", "Legnext gave no reason."),
        ({"status": "failed", "points": 0}, "failed", "It was not charged."),
        ({"status": "failed"}, "failed", "--retry-failed"),
        ({"status": "pending"}, "open", "no run is waiting for it"),
        ({"status": "hovering"}, "open", "no run is waiting for it"),
        ({"status": "pending", "resume": "uv run <x>"}, "open", "at no further cost:uv run <x>Copy command"),
        ({"status": "completed"}, "open", "moderation has most likely held them back"),
        ({"status": "completed", "resume": "uv run"}, "open", "uv run"),
    ],
)
def test_a_job_without_pictures_says_why(changes: dict[str, Any], state: str, words: str) -> None:
    page = Page(gallery(card(**{"grid": None, "pictures": (), **changes})))
    assert page.values["article", "class"] == [state]
    assert words in page.texts["article"][0]
    assert ("a", "href") not in page.values


def test_what_is_unknown_is_left_out() -> None:
    page = Page(gallery(Card("id", "pending", None, None, None, None, None, None, None, ())))
    assert page.texts["details"][0].splitlines()[-2:] == ["Job: id", "Status: pending"]
    assert page.texts["h3"] == ["No prompt on record"]
    assert "Copy prompt" not in page.texts["button"]


@pytest.mark.parametrize("time", ["yesterday", "2026-13-45T00:00:00Z", "0001-01-01T00:00:00+14:00", "<b>"])
def test_unreadable_time_is_shown_as_it_is(time: str) -> None:
    page = Page(gallery(card(submitted_at=time, ended_at=None)))
    assert page.texts["summary"][0].startswith(time)
    assert f"Submitted: {time}\n" in page.texts["details"][0]
    assert "time" not in page.texts


def test_missing_pictures_are_linked_in_their_place_and_never_loaded() -> None:
    page = Page(gallery(MISSING))
    assert "cdn.example" not in gallery(DONE), "all pictures are here"
    assert page.values["a", "href"] == [
        "./89fc/grid.png",
        "./89fc/1.png",
        MISSING.pictures[1].url,
        "./89fc/3.png",
        "./89fc/4.png",
    ]
    assert "Picture 2 is not in this folder." in page.texts["article"][0]
    assert "uv run get_task.py" in page.texts["code"]
    hostile = card(pictures=(Picture(1, None, "javascript:alert(1)"), Picture(2, None)), grid=None)
    assert ("a", "href") not in Page(gallery(hostile)).values


def test_a_job_that_came_as_a_grid_only_shows_it() -> None:
    assert Page(gallery(card(pictures=()))).values["img", "src"] == ["./89fc/grid.png"]


def test_paths_stay_relative() -> None:
    paths = ("a b/1#?.png", "//evil.example/2.png", "javascript:alert(1)", 'é"/4.png')
    page = Page(gallery(card(grid=None, pictures=tuple(Picture(n, path) for n, path in enumerate(paths)))))
    assert page.values["img", "src"] == [
        "./a%20b/1%23%3F.png",
        ".///evil.example/2.png",
        "./javascript%3Aalert%281%29",
        "./%C3%A9%22/4.png",
    ]


@pytest.mark.parametrize(
    ("prompt", "count", "layout", "size"),
    [
        ("x --ar 16:9 --v 7", 4, "roomy", ("16", "9")),
        ("x --ar 9:16", 4, "dense", ("9", "16")),
        ("x", 4, "dense", ("1", "1")),
        ("x --ar 21:9", 24, "dense", ("21", "9")),
        ("x", 1, "roomy", ("1", "1")),
        ("x --ar 0:0", 4, "dense", ("1", "1")),
        ("x --ar 1:9999", 4, "dense", ("1", "1")),
        ("x --ar 16:9.5", 4, "dense", ("1", "1")),
    ],
)
def test_layout_follows_the_shape(prompt: str, count: int, layout: str, size: tuple[str, str]) -> None:
    pictures = tuple(Picture(n, f"89fc/{n}.png") for n in range(1, count + 1))
    page = Page(gallery(card(prompt=prompt, pictures=pictures)))
    assert f"pictures {layout}" in page.values["div", "class"]
    assert len(page.values["img", "src"]) == count
    assert {*zip(page.values["img", "width"], page.values["img", "height"], strict=True)} == {size}


def test_long_prompt_is_whole_but_its_alt_is_short() -> None:
    page = Page(gallery(card(prompt="ab cd " * 1365)))
    assert page.texts["h3"] == ["ab cd " * 1365]
    assert max(map(len, page.values["img", "alt"])) < 150


def test_nothing_comes_from_elsewhere() -> None:
    source = gallery(DONE)
    assert not re.search(r"://|url\(|@import|\bsrcset\b", source)
    policy = Page(source).values["meta", "content"][0]
    assert policy.startswith("default-src 'none'; img-src 'self' file:; style-src 'sha256-")
    assert "unsafe" not in policy


anything = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=()), min_size=1))
# What HTML is made of, far more often than chance would have it.
markup = st.lists(st.sampled_from([*"<>\"'&;/=-$!\r\n\0 a{}", "script", "&lt", "--ar", "\ud800"]), min_size=1)
text = anything | markup.map("".join)


SHAPE = Page(gallery(DONE)).shape


@given(text)
def test_prompt_comes_back_and_adds_nothing(prompt: str) -> None:
    page = Page(gallery(card(prompt=prompt)))
    assert page.texts["h3"] == [clean(prompt)]
    assert page.shape == SHAPE
    assert all(clean(prompt).startswith(alt[11:].removesuffix("…")) for alt in page.values["img", "alt"])


@settings(max_examples=50)
@given(st.tuples(*[text] * 8))
def test_no_other_field_adds_anything(fields: tuple[str, ...]) -> None:
    def fill(*fields: str) -> Page:
        job, status, seed, time, error, path, resume, title = fields
        failed = card(job_id=job, status="failed", seed=seed, submitted_at=time, ended_at=None, error=error)
        gone = Picture(2, None, "https://x/" + path)
        running = card(job_id=job, status="x" + status, grid=path, pictures=(Picture(1, path), gone))
        waiting = running._replace(resume=resume, waiting=True)
        return Page("".join(render([failed, waiting], title=title, live_until=NOON)))

    page = fill(*fields)
    assert sorted(page.shape) == sorted(fill(*["plain"] * 8).shape)
    assert clean(fields[4]) in "".join(page.texts["article"])
    assert page.texts["code"][-1] == clean(fields[6]) or clean(fields[6]) in page.texts["code"]
    assert page.texts["h1"] == page.texts["title"] == [clean(fields[7])]
    assert all(src.startswith("./") for src in page.values["img", "src"])


def test_clean_replaces_what_html_cannot_hold_and_nothing_else() -> None:
    assert clean("a\0b\ud800c\udfff") == "a\ufffdb\ufffdc\ufffd"
    assert clean("\t\r\n\x01\x7f\u202e\ufeff🌅") == "\t\r\n\x01\x7f\u202e\ufeff🌅"


def test_two_thousand_jobs() -> None:
    page = gallery(*(card(job_id=str(n)) for n in range(2_000)))
    assert page.count("<article ") == 2_000
    assert page.count("<") < 2_000 * 45, "a browser makes them one by one before the page answers"
    assert len(page) < 2_000 * 2048


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a headless browser, or skip the test where there is none."""
    if program() is None:
        pytest.skip("no Chromium that can be driven over inherited pipes was found")
    with started(tmp_path_factory.mktemp("home")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Open a page of its own; in the end nothing but files must have been asked for."""
    page = new_page(chromium)
    yield chromium
    chromium.target = {}
    chromium.call("Target.closeTarget", targetId=page)
    assert {url.partition("://")[0] for url in chromium.requested} == {"file"}


def drawn(folder: Path, job_id: str, **changes: Any) -> Card:
    """Return a completed job whose four pictures, 300 by 200, are really in FOLDER."""
    (folder / job_id).mkdir(exist_ok=True)
    for n in range(1, 5):
        Image.new("RGB", (300, 200), (60 * n, 120, 120)).save(folder / job_id / f"{n}.png")
    pictures = tuple(Picture(n, f"{job_id}/{n}.png") for n in range(1, 5))
    return card(**{"job_id": job_id, "grid": None, "pictures": pictures, **changes})


def put(page: Path, source: str) -> Path:
    """Write PAGE whole, as the scripts do."""
    new = page.with_suffix(".new")
    new.write_bytes(source.encode())
    new.replace(page)
    return page


CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: %s});"
CATCH = CLIPBOARD % "{writeText: async text => { window.got = text; }}"
FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def test_in_a_browser_a_hostile_prompt_stays_text(tmp_path: Path, browser: Browser) -> None:
    prompt = (
        "w" * 100
        + "\r\n</script><img src=x onerror='document.title=1'> $a ${b} \0 \u202e "
        + "word " * 500
        + "--ar 3:2"
    )
    source = gallery(
        drawn(tmp_path, "a job", prompt=prompt, seed="<b>"),
        card(prompt="short", status="failed", error="No.", pictures=()),
    )
    page = put(tmp_path / "gallery.html", source)
    # Had the escaping failed, the policy would still keep the script from running.
    attack = "<main><img src=x onerror='document.title=1'><script>document.title=2</script>"
    broken = put(tmp_path / "broken.html", source.replace("<main>", attack))

    browser.go(page)
    assert browser.run("document.title") == "harbour"
    assert browser.run("document.querySelector('h3').textContent") == clean(prompt)
    loaded = "image => (image.loading = 'eager', image.decode().then(() => image.naturalWidth))"
    assert browser.run(f"Promise.all([...document.images].slice(0, 4).map({loaded}))") == [300] * 4

    # In a window as narrow as a phone nothing sticks out sideways, nor is it cut off.
    browser.window(390, 800)
    wide = "[...document.querySelectorAll('html, article, h3')].filter(e => e.scrollWidth > e.clientWidth)"
    assert browser.run("innerWidth") == 390
    assert browser.run(f"{wide}.length") == 0

    # Only the long prompt can be unfolded; two frames let the page notice its own size.
    browser.run(FRAMES)
    folds = "[...document.querySelectorAll('article')].map(card => card.querySelector('[data-do=fold]'))"
    assert browser.run(f"{folds}.map(Boolean)") == [True, False]
    height = "document.querySelector('h3').clientHeight"
    folded = browser.run(height)
    assert browser.run(f"{folds}[0].click(), {height}") > 4 * folded
    assert browser.run(f"{folds}[0].click(), {height}") == folded

    # One click copies the prompt as it is; without a clipboard API, as it is shown.
    heard_of = (
        "new Promise(done => {"
        "  new MutationObserver(() => done(heard.textContent)).observe(heard, {childList: true});"
        "  document.querySelector('[data-do=prompt]').click();"
        "})"
    )
    assert browser.run(CATCH + heard_of) == "Copied"
    assert browser.run("got") == clean(prompt)
    browser.go(page)
    browser.run("document.addEventListener('copy', () => { window.got = String(getSelection()); })")
    assert browser.run(CLIPBOARD % "undefined" + heard_of) == "Copied"
    assert browser.run("got").split() == clean(prompt).split()

    browser.go(broken)
    assert browser.run("document.querySelectorAll('main > img, main > script').length") == 2
    assert browser.run("document.title") == "harbour"


@pytest.mark.parametrize(("width", "below"), [(1440, 260), (390, 300)])
def test_pictures_first(tmp_path: Path, browser: Browser, width: int, below: int) -> None:
    words = "a lighthouse in the fog, long exposure, " * 20
    jobs = (
        drawn(tmp_path, "job", prompt=words + "--ar 3:2"),
        drawn(tmp_path, "old", prompt="منارة عند الفجر --v 7", submitted_at=None, ended_at=None),
    )
    browser.window(width, 900)
    browser.go(
        put(
            tmp_path / "gallery.html",
            gallery(*jobs, live_until=datetime.now(timezone.utc) + timedelta(hours=1)),
        )
    )
    browser.run(FRAMES)
    box = "(e => (r => [r.left, r.top, r.right, r.bottom])(e.getBoundingClientRect()))"
    names = ("img", "h3", "h3 bdi", "h1")
    at = {name: browser.run(f"{box}(document.querySelector({name!r}))") for name in names}
    assert at["img"][1] <= below
    assert at["h1"][1] < at["h3"][1] < at["h3 bdi"][3] <= at["img"][1]
    # A prompt that is written right to left begins where the pictures end, its buttons with it.
    last = "[...document.querySelectorAll('article')].at(-1)"
    edges = f"['.pictures', 'h3 span', 'details', 'button'].map(name => {box}({last}.querySelector(name)))"
    pictures, words_at, line, button = browser.run(edges)
    assert words_at[2] == line[2] == pictures[2]
    assert button[2] == pictures[2] or line[0] - 24 < button[2] <= line[0]


def test_looking_and_choosing_with_keys_and_fingers(tmp_path: Path, browser: Browser) -> None:
    jobs = [drawn(tmp_path, "second job", submitted_at="2026-11-21T20:15:00Z"), drawn(tmp_path, "first")]
    browser.go(put(tmp_path / "gallery.html", gallery(*jobs)))
    seen = "[viewer.open, $('name').textContent, $('place').textContent]"

    browser.run("document.querySelectorAll('.pictures a')[2].focus()")
    browser.key("Enter")
    assert browser.run(seen) == [True, "Picture 3: 3.png", "3 of 8"]
    assert browser.run("large.decode().then(() => [large.naturalWidth, large.alt])") == [
        300,
        f"Picture 3: {DONE.prompt}",
    ]
    browser.key("ArrowRight")
    browser.key("ArrowRight")
    assert browser.run(seen) == [True, "Picture 1: 1.png", "5 of 8"]
    browser.key("ArrowLeft")
    assert browser.run(seen) == [True, "Picture 4: 4.png", "4 of 8"]
    for _ in range(9):
        browser.key("ArrowRight")
    assert browser.run(seen) == [True, "Picture 4: 4.png", "8 of 8"]

    browser.run(CATCH)
    assert browser.run("document.activeElement.dataset.do") == "path"
    browser.key("Enter")
    assert browser.run(f"{FRAMES}.then(() => got)") == "second job/4.png"

    def swipe(*ways: tuple[int, int]) -> None:
        kinds = ("touchStart", "touchMove", "touchMove")
        for kind, (x, y) in zip(kinds, ways, strict=True):
            browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    swipe((100, 300), (200, 310), (300, 305))
    assert browser.run(seen) == [True, "Picture 3: 3.png", "7 of 8"]
    swipe((200, 300), (225, 200), (250, 100))
    assert browser.run(seen) == [True, "Picture 3: 3.png", "7 of 8"], "that was up, not across"
    browser.key("ArrowLeft")
    browser.key("ArrowLeft")
    swipe((300, 300), (200, 310), (100, 305))
    assert browser.run(seen) == [True, "Picture 2: 2.png", "6 of 8"]

    browser.run("window.shut = new Promise(done => viewer.addEventListener('close', () => done(true))); 0")
    browser.key("Escape")
    assert browser.run("shut")
    assert browser.run("[viewer.open, document.activeElement.getAttribute('href')]") == [
        False,
        "./second%20job/2.png",
    ]


def test_without_scripts_a_picture_is_a_plain_link(tmp_path: Path, browser: Browser) -> None:
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    waiting = card(status="pending", pictures=(), grid=None, resume="uv run it", waiting=True)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.go(put(tmp_path / "gallery.html", gallery(drawn(tmp_path, "job"), waiting, live_until=soon)))
    hidden = "[...document.querySelectorAll('button, input')].every(e => !e.checkVisibility())"
    assert browser.run(hidden) is True
    assert browser.run("document.querySelector('pre').checkVisibility()"), (
        "nobody could tell that the run is gone"
    )
    x, y = browser.run("(r => [r.x + 5, r.y + 5])(document.querySelector('img').getBoundingClientRect())")
    loads = browser.loads
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    while browser.loads == loads:
        browser.read()
    assert browser.run("location.pathname").endswith("/job/1.png")


def test_filter_by_words_of_the_prompt(tmp_path: Path, browser: Browser) -> None:
    prompts = ["a quiet harbour --ar 3:2", "A Café by the harbour", "منارة عند الفجر", "<b>cat</b> $&"]
    jobs = [card(prompt=p, submitted_at=f"2026-11-2{n}T12:00:00Z") for n, p in enumerate(prompts)]
    browser.go(put(tmp_path / "gallery.html", gallery(*jobs)))

    def sift(words: str) -> Any:
        browser.run(f"filter.value = {json.dumps(words)}; filter.dispatchEvent(new Event('input'))")
        shown = (
            "[...document.querySelectorAll('h3')].filter(e => e.checkVisibility()).map(e => e.textContent)"
        )
        days = "[...document.querySelectorAll('h2')].filter(e => e.checkVisibility()).length"
        return browser.run(f"[{shown}, {days}, summary.textContent]")

    assert sift("HARBOUR quiet") == [[prompts[0]], 1, "1 of 4 jobs"]
    assert sift(" cafe\u0301 ") == sift("cafe") == [[prompts[1]], 1, "1 of 4 jobs"]
    assert sift("منارة") == [[prompts[2]], 1, "1 of 4 jobs"]
    assert sift("</b> $&") == [[prompts[3]], 1, "1 of 4 jobs"]
    assert sift("harbour cat") == [[], 0, "0 of 4 jobs"]
    browser.run("filter.value = 'quiet'; filter.dispatchEvent(new Event('input')); $('viewer').close()")
    browser.run("document.querySelector('article:not([hidden]) .pictures a').click()")
    assert browser.run("$('place').textContent") == "1 of 4", "the arrows stay within what is shown"
    assert sift("") == [prompts[::-1], 4, "16 pictures from 4 jobs"]


# The test says when time has passed.
TIMERS = "window.timers = []; window.setTimeout = (...timer) => timers.push(timer);"


def test_live_page_follows_the_run_and_keeps_its_place(tmp_path: Path, browser: Browser) -> None:
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    page = tmp_path / "gallery.html"
    jobs = [
        drawn(tmp_path, f"job{n}", submitted_at=f"2026-11-22T1{n}:00:00Z", prompt=f"w{n} " * 300 + "--ar 3:2")
        for n in range(8)
    ]
    under_way = card(job_id="new", status="pending", pictures=(), grid=None, resume="uv run it", waiting=True)
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=TIMERS)
    browser.window(1000, 700)
    browser.go(put(page, gallery(*jobs, live_until=soon)))
    assert browser.run("timers.length == 1 && timers[0][1] >= 4000")
    browser.run("cards[0].kept = true")
    put(page, gallery(*jobs, under_way, live_until=soon))
    browser.follow()
    assert browser.run("[cards[0].id, cards[1].id, cards[1].kept]") == ["job-new", "job-job7", True]
    assert browser.run("[...document.querySelectorAll('.now')].every(e => e.checkVisibility())")
    assert not browser.run("[...document.querySelectorAll('.later')].some(e => e.checkVisibility())")

    place = (
        "(a => [a.id, a.getBoundingClientRect().top])"
        "([...cards].find(a => a.getBoundingClientRect().bottom > 40))"
    )
    before = browser.run(
        "$('job-job6').querySelector('summary').click(), fold($('job-job5').querySelector('h3'), true),"
        "$('job-job4').scrollIntoView(), scrollBy(0, 77),"
        f"$('job-job4').querySelector('button').focus({{preventScroll: true}}), {FRAMES}.then(() => {place})"
    )
    assert before[0] == "job-job4"
    browser.run("[...cards].forEach(card => { card.kept = true; })")
    # The new job, the first on the page, gets its pictures; one of another day comes, one is deleted.
    tomorrow = drawn(tmp_path, "later", submitted_at="2026-11-23T01:00:00Z")
    done = drawn(tmp_path, "new", submitted_at=under_way.submitted_at)
    put(page, gallery(*jobs[1:], done, tomorrow, live_until=soon))
    browser.follow()
    assert browser.run(f"{FRAMES}.then(() => [timers.length, document.body.className])") == [5, "live"]
    put(page, gallery(*jobs[1:], done, tomorrow))
    browser.follow()
    assert browser.run("[timers.length, document.body.className]") == [6, ""], "no run, no look"
    assert browser.run("[...cards].filter(card => !card.kept).map(card => card.id)") == [
        "job-later",
        "job-new",
    ]
    assert browser.run(f"{FRAMES}.then(() => {FRAMES}).then(() => {FRAMES}).then(() => {place})") == [
        before[0],
        pytest.approx(before[1], abs=2),
    ]
    assert browser.run(
        "[$('job-job6').querySelector('details').open, document.querySelectorAll('h3.open').length]"
    ) == [True, 1]
    assert browser.run("document.activeElement.closest('article').id") == "job-job4"
    shown = "[...document.querySelectorAll('h2, h3, summary')].map(e => e.textContent)"
    followed = browser.run(shown)
    browser.go(page)
    assert browser.run(shown) == followed

    # The same with a large picture over a page that is filtered.
    put(page, gallery(*jobs, under_way, live_until=soon))
    browser.go(page)
    browser.run("filter.value = 'w3'; sift(); document.querySelectorAll('#job-job3 a')[1].click()")
    put(page, gallery(*jobs, done, tomorrow))
    browser.follow()
    said = "[viewer.open, $('name').textContent, $('place').textContent, summary.textContent]"
    assert browser.run(said) == [True, "Picture 2: 2.png", "2 of 4", "1 of 10 jobs"]


def test_a_live_page_answers_no_stranger(tmp_path: Path, browser: Browser) -> None:
    live = gallery(DONE, live_until=datetime.now(timezone.utc) + timedelta(hours=1))
    put(tmp_path / "gallery.html", live)
    (tmp_path / "stranger.html").write_text(
        "<script>window.got = []; onmessage = e => got.push(e.data.length)</script>"
        "<iframe src='gallery.html'></iframe><iframe src='gallery.html?viewer'></iframe>"
        f"<iframe src='gallery.html?job-{DONE.job_id}'></iframe>"
    )
    browser.go(tmp_path / "stranger.html")
    assert browser.run("got.length") == 1, "a job's name, which only the page itself holds, is the key"
    assert "frame-src" not in gallery(DONE)


def test_a_page_whose_run_was_killed_says_how_to_go_on(tmp_path: Path, browser: Browser) -> None:
    command = "uv run it --output-dir 'a b'"
    waiting = card(job_id="w", status="pending", pictures=(), grid=None, resume=command, waiting=True)
    page = tmp_path / "gallery.html"
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=TIMERS)
    browser.go(put(page, gallery(waiting, DONE, live_until=datetime.now(timezone.utc) + timedelta(hours=1))))
    assert browser.run("document.body.className") == "live"
    # In an open page the time runs out; opened later, it has run out already.
    browser.run("Date.now = () => Date.parse(live.dataset.until) + 1")
    browser.follow()
    assert browser.run("[timers.length, document.body.className]") == [2, ""]
    browser.go(
        put(page, gallery(waiting, DONE, live_until=datetime.now(timezone.utc) - timedelta(seconds=1)))
    )
    assert browser.run("timers") == []
    assert not browser.run("[...document.querySelectorAll('.now, #live')].some(e => e.checkVisibility())")
    assert browser.run("[...document.querySelectorAll('.later')].every(e => e.checkVisibility())")
    browser.run(CATCH + "document.querySelector('[data-do=command]').click()")
    assert browser.run(f"{FRAMES}.then(() => got)") == command


def test_print_keeps_a_heading_with_its_pictures(tmp_path: Path, browser: Browser) -> None:
    browser.go(put(tmp_path / "gallery.html", gallery(*[drawn(tmp_path, f"job{n}") for n in range(2)])))
    browser.call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    style = "(name, property) => getComputedStyle(document.querySelector(name))[property]"
    assert browser.run(f"['h2', '.head'].map(name => ({style})(name, 'breakAfter'))") == ["avoid", "avoid"]
    assert browser.run(f"['article', '.pictures'].map(name => ({style})(name, 'breakInside'))") == [
        "avoid",
        "avoid",
    ]
    assert browser.run(f"({style})('body', 'color')") == "rgb(28, 28, 26)", "black on white"
    assert browser.run("[...document.querySelectorAll('button, input')].every(e => !e.checkVisibility())")
