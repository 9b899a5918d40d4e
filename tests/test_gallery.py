"""The gallery page: what it shows, that no prompt can break out of it, and that a browser agrees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from legnext.disk.gallery import Card, clean, render

DONE = Card(
    job_id="89fc70ee-0357-4dab-98e7-d3383e2efd1b",
    status="completed",
    prompt="a quiet harbour --ar 16:9",
    seed="2452171661",
    submitted_at="2026-11-22T20:15:00Z",
    ended_at="2026-11-22T20:15:31Z",
    points=8,
    error=None,
    grid="89fc/grid.png",
    images=("89fc/1.png", "89fc/2.png", "89fc/3.png", "89fc/4.png"),
)
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
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:  # noqa: D102
        for tag in self.open:
            self.texts[tag][-1] += data


def card(**changes: Any) -> Card:
    return DONE._replace(**changes)


def facts(page: Page) -> dict[str, str]:
    return dict(zip(page.texts["dt"], (text.strip() for text in page.texts["dd"]), strict=True))


def test_completed_job_shows_everything() -> None:
    page = Page(render([DONE]))
    assert page.texts["h2"] == [DONE.prompt]
    assert facts(page) == {
        "Status": "completed",
        "Time": "2026-11-22 20:15 UTC",
        "Seed": "2452171661",
        "Points": "8",
        "Job": DONE.job_id,
    }
    assert page.values["time", "datetime"] == ["2026-11-22T20:15:00Z"]
    assert page.values["img", "src"] == [f"./89fc/{n}.png" for n in (1, 2, 3, 4)]
    assert page.values["img", "alt"] == [f"Picture {n}: {DONE.prompt}" for n in (1, 2, 3, 4)]
    assert page.values["a", "href"] == ["./89fc/grid.png", *page.values["img", "src"]]
    assert set(page.values["img", "loading"]) == {"lazy"}


def test_no_jobs() -> None:
    page = Page(render([]))
    assert page.texts["header"][0].split() == ["Gallery", "0", "jobs"]
    assert page.texts["main"][0].strip() == "There are no jobs in this folder yet."


def test_header_counts_and_newest_first() -> None:
    cards = [
        card(prompt="third", submitted_at=None, ended_at="2026-11-22T20:15:00.123456789Z"),
        card(prompt="last", status="failed", submitted_at="yesterday", ended_at=None),
        card(prompt="first", status="pending", submitted_at="2026-11-22T20:17:00Z"),
        card(prompt="second", submitted_at="2026-11-22T22:16:00+02:00"),
    ]
    page = Page(render(iter(cards)))
    assert page.texts["h2"] == ["first", "second", "third", "last"]
    assert "4 jobs: 2 completed, 1 running, 1 failed" in page.texts["header"][0]
    assert page.values["time", "datetime"] == [f"2026-11-22T20:{m}:00Z" for m in (17, 16, 15)]
    assert render(cards) == render(reversed(cards))


@pytest.mark.parametrize(
    ("status", "error", "state", "words"),
    [
        ("failed", "Banned <word> & more", "failed", "Banned <word> & more"),
        ("failed", None, "failed", "gave no reason"),
        ("pending", None, "running", "Not finished yet"),
        ("processing", None, "running", "Not finished yet"),
        ("hovering", None, "running", "Not finished yet"),
        ("completed", None, "completed", "The pictures are not in this folder."),
    ],
)
def test_a_job_without_pictures_says_why(status: str, error: str | None, state: str, words: str) -> None:
    page = Page(render([card(status=status, error=error, grid=None, images=())]))
    assert page.values["article", "class"] == [state]
    assert facts(page)["Status"] == status
    assert words in page.texts["article"][0]
    assert ("a", "href") not in page.values


def test_what_is_unknown_is_left_out() -> None:
    page = Page(render([Card("id", "pending", None, None, None, None, None, None, None, ())]))
    assert facts(page) == {"Status": "pending", "Job": "id"}
    assert page.texts["h2"] == ["No prompt on record"]
    assert "button" not in page.texts


@pytest.mark.parametrize("time", ["yesterday", "2026-13-45T00:00:00Z", "0001-01-01T00:00:00+14:00", "<b>"])
def test_unreadable_time_is_shown_as_it_is(time: str) -> None:
    page = Page(render([card(submitted_at=time, ended_at=None)]))
    assert facts(page)["Time"] == time
    assert "time" not in page.texts


def test_missing_pictures_are_linked_never_loaded() -> None:
    urls = ("https://cdn.example/1.png?a=1&b=2", "javascript:alert(1)", "https://cdn.example/3.png")
    page = Page(render([card(grid=None, images=(), image_urls=urls)]))
    assert page.values["a", "href"] == [urls[0], urls[2]]
    assert page.texts["a"] == ["Picture 1", "Picture 3"]
    assert "img" not in page.texts
    assert "cdn.example" not in render([card(image_urls=urls)]), "all pictures are here"
    some = Page(render([card(images=("89fc/2.png",), image_urls=urls)]))
    assert "Some pictures are not in this folder." in some.texts["article"][0]


def test_paths_stay_relative() -> None:
    paths = ("a b/1#?.png", "//evil.example/2.png", "javascript:alert(1)", 'é"/4.png')
    page = Page(render([card(grid=None, images=paths)]))
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
    page = Page(render([card(prompt=prompt, images=tuple(f"89fc/{n}.png" for n in range(1, count + 1)))]))
    assert f"pictures {layout}" in page.values["div", "class"]
    assert len(page.texts["img"]) == count
    assert {*zip(page.values["img", "width"], page.values["img", "height"], strict=True)} == {size}


def test_long_prompt_is_whole_but_its_alt_is_short() -> None:
    page = Page(render([card(prompt="ab cd " * 1365)]))
    assert page.texts["h2"] == ["ab cd " * 1365]
    assert max(map(len, page.values["img", "alt"])) < 150


def test_nothing_comes_from_elsewhere() -> None:
    source = render([DONE])
    assert not re.search(r"://|url\(|@import|\bsrcset\b", source)
    policy = Page(source).values["meta", "content"][0]
    assert policy.startswith("default-src 'none'; img-src 'self' file:; style-src 'sha256-")
    assert "unsafe" not in policy


anything = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=()), min_size=1))
# What HTML is made of, far more often than chance would have it.
markup = st.lists(st.sampled_from([*"<>\"'&;/=-$!\r\n\0 a{}", "script", "&lt", "--ar", "\ud800"]), min_size=1)
text = anything | markup.map("".join)


@given(text)
def test_prompt_comes_back_and_adds_nothing(prompt: str) -> None:
    page = Page(render([card(prompt=prompt)]))
    assert page.texts["h2"] == [clean(prompt)]
    assert page.shape == Page(render([DONE])).shape
    assert all(clean(prompt).startswith(alt[11:].removesuffix("…")) for alt in page.values["img", "alt"])


@settings(max_examples=50)
@given(st.tuples(text, text, text, text, text, text))
def test_no_other_field_adds_anything(fields: tuple[str, ...]) -> None:
    def fill(*fields: str) -> Page:
        job, status, seed, time, error, path = fields
        failed = card(job_id=job, status="failed", seed=seed, submitted_at=time, ended_at=None, error=error)
        url = "https:" + path
        running = card(job_id=job, status="x" + status, grid=path, images=(path,), image_urls=(url,))
        return Page(render([failed, running]))

    page = fill(*fields)
    assert sorted(page.shape) == sorted(fill(*["plain"] * 6).shape)
    assert clean(fields[4]) in "".join(page.texts["article"])
    assert all(src.startswith("./") for src in page.values["img", "src"])


def test_clean_replaces_what_html_cannot_hold_and_nothing_else() -> None:
    assert clean("a\0b\ud800c\udfff") == "a\ufffdb\ufffdc\ufffd"
    assert clean("\t\r\n\x01\x7f\u202e\ufeff🌅") == "\t\r\n\x01\x7f\u202e\ufeff🌅"


def test_two_thousand_jobs() -> None:
    page = render(card(job_id=str(n)) for n in range(2_000))
    assert page.count("<article ") == 2_000
    assert len(page) < 2_000 * 4096


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
]


class Browser:
    """Just enough of the DevTools protocol over a pipe: JSON objects that end with NUL."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.rest = b""
        self.calls = 0
        self.requested: list[str] = []
        self.target: dict[str, str] = {}

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of METHOD, or fail."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": params, **self.target}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                chunk = os.read(self.from_browser, 1 << 16)
                assert chunk, "the browser is gone"
                self.rest += chunk
            raw, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(raw)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                return answer["result"]

    def go(self, page: Path) -> None:
        """Open PAGE and wait until it is loaded."""
        self.call("Page.navigate", url=page.as_uri())
        self.run(
            "new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))"
        )

    def run(self, script: str) -> Any:
        """Return the value of SCRIPT in the page, awaited, as if the user had acted."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@contextmanager
def browse(profile: Path) -> Iterator[Browser]:
    """Start a headless browser with one blank page, or skip the test where there is none."""
    if sys.platform == "win32":
        pytest.skip("the browser is driven over inherited pipes, which needs POSIX")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser found, looked for {', '.join(BROWSERS)}")
    browser_in, to_browser = os.pipe()
    from_browser, browser_out = os.pipe()
    # The browser reads from 3 and writes to 4; the shell puts the pipes there.
    start = ["/bin/bash", "-c", f'exec "$@" 3<&{browser_in} 4>&{browser_out}', "-", program]
    process = subprocess.Popen(
        [*start, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(browser_in, browser_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(browser_in)
    os.close(browser_out)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        browser = Browser(to_browser, from_browser)
        page = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.target = {
            "sessionId": browser.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        }
        browser.call("Network.enable")
        yield browser
    finally:
        with suppress(Exception):
            browser.target = {}
            browser.call("Browser.close")
            process.wait(10)
        process.kill()
        process.wait()
        watchdog.cancel()
        os.close(to_browser)
        os.close(from_browser)


def test_in_a_browser(tmp_path: Path) -> None:
    prompt = (
        "w" * 100
        + "\r\n</script><img src=x onerror='document.title=1'> $a ${b} \0 \u202e "
        + "word " * 500
        + "--ar 3:2"
    )
    (tmp_path / "a job").mkdir()
    images = tuple(f"a job/{n}.png" for n in (1, 2, 3, 4))
    for image in images:
        Image.new("RGB", (300, 200), "teal").save(tmp_path / image)
    source = render([card(prompt=prompt, images=images), card(prompt="short", status="failed", error="No.")])
    page, broken = tmp_path / "gallery.html", tmp_path / "broken.html"
    page.write_bytes(source.encode())
    # Had the escaping failed, the policy would still keep the script from running.
    attack = "<main><img src=x onerror='document.title=1'><script>document.title=2</script>"
    broken.write_bytes(source.replace("<main>", attack).encode())

    with browse(tmp_path / "profile") as browser:
        browser.go(page)
        assert browser.run("document.title") == "Gallery, 2 jobs"
        assert browser.run("document.querySelector('h2').textContent") == clean(prompt)
        assert browser.run("document.querySelector('time').title") == "2026-11-22 20:15 UTC"
        loaded = "image => (image.loading = 'eager', image.decode().then(() => image.naturalWidth))"
        assert browser.run(f"Promise.all([...document.images].slice(0, 4).map({loaded}))") == [300] * 4

        # In a window as narrow as a phone nothing sticks out sideways, nor is it cut off.
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.call("Emulation.setDeviceMetricsOverride", **phone)
        wide = (
            "[...document.querySelectorAll('html, article, h2')].filter(e => e.scrollWidth > e.clientWidth)"
        )
        assert browser.run("innerWidth") == 390
        assert browser.run(f"{wide}.length") == 0

        # Only the long prompt can be unfolded; two frames let the page notice its own size.
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        folds = "[...document.querySelectorAll('[data-do=fold]')]"
        assert browser.run(f"{folds}.map(button => button.hidden)") == [False, True]
        height = "document.querySelector('h2').clientHeight"
        folded = browser.run(height)
        assert browser.run(f"{folds}[0].click(), {height}") > 4 * folded
        assert browser.run(f"{folds}[0].click(), {height}") == folded

        # One click copies the prompt as it is; without a clipboard API, as it is shown.
        clipboard = "Object.defineProperty(navigator, 'clipboard', {value: %s});"
        heard = (
            "new Promise(done => {"
            "  new MutationObserver(() => done(live.textContent)).observe(live, {childList: true});"
            "  document.querySelector('[data-do=copy]').click();"
            "})"
        )
        assert (
            browser.run(clipboard % "{writeText: async text => { window.got = text; }}" + heard) == "Copied"
        )
        assert browser.run("got") == clean(prompt)
        browser.go(page)
        browser.run("document.addEventListener('copy', () => { window.got = String(getSelection()); })")
        assert browser.run(clipboard % "undefined" + heard) == "Copied"
        assert browser.run("got").split() == clean(prompt).split()

        browser.go(broken)
        assert browser.run("document.querySelectorAll('main > img, main > script').length") == 2
        assert browser.run("document.title") == "Gallery, 2 jobs"
    assert {url.partition("://")[0] for url in browser.requested} == {"file"}
