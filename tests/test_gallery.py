"""The gallery page: what a person sees and does in a real browser, and what no record can break."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import Browser, program, started
from folder import generate, total
from legnext import gallery, report
from sandbox import Sandbox

ODD = 'best #1 (50%28) & "co"?'
HOSTILE = [
    "</script><img src=x onerror='document.title=1'>",
    "--></style></title><script>document.title=2</script><!-- --ar 1:9999",
    'it\'s "quoted" & &amp; &lt; $name ${x} $$ {0} %s --ar ' + "9" * 5000 + ":1",
    "nul \0, half pairs \ud800 \udfff, lines\r\n\tand tabs",
    "\u202eright to left\u2066 never closed",
    "منارة عند الفجر --ar 21:9",
    "w" * 8192,
]
UPRIGHT = ["9:16", "2:3", "4:5", "1:1"]
SHAPES = ["16:9", "3:2", "4:3", "5:4", *UPRIGHT]
FOUR = ("grid", "1", "2", "3", "4")
TEXTS = "[...document.querySelectorAll('%s')].map(e => e.textContent.trim())"
VISIBLE = TEXTS.replace(".map", ".filter(e => e.checkVisibility()).map")
CARD = "document.querySelectorAll('article')[%d]"
BOXES = f"""[...{CARD}.querySelectorAll('h3, img')].map(e => e.getBoundingClientRect())
    .map(box => [box.left, box.top, box.right, box.bottom])"""
FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
COPY = """(navigator.clipboard.writeText = async text => got = text,
    [...document.querySelectorAll('button')].find(e => e.textContent == 'Copy %s'))"""
pytestmark = pytest.mark.xdist_group("browsers")  # each is started once
in_chromium = pytest.mark.parametrize("window", ["chromium"], indirect=True)


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def window(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if program(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with started(request.param, tmp_path_factory.mktemp("home")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """Each browser in turn; at the end only files were asked for, and no error was logged."""
    yield (browser := window)
    requests = ("Network.requestWillBeSent", "network.beforeRequestSent")
    sent = [e["params"]["request"]["url"] for e in browser.events if e["method"] in requests]
    assert sent or browser.is_firefox  # whose protocol is silent about files
    assert [url for url in sent if not url.startswith("file:")] == []
    assert [e for e in browser.events if re.search("(?i)log.entry|exception", e["method"])] == []


def made(folder: Path, name: str = "job", prompt: str = "a cat", **changes: Any) -> dict[str, Any]:
    """Return a completed job whose pictures are really there, in the shape of its prompt."""
    (folder / name).mkdir(exist_ok=True)
    ratio = re.search(r"--ar (\d{1,2}):(\d{1,2})$", prompt)
    size = (int(ratio[1]) * 20, int(ratio[2]) * 20) if ratio else (320, 320)
    for picture in FOUR:
        Image.new("RGB", size, "teal").save(folder / name / f"{picture}.png")
    job: dict[str, Any] = {"job_id": name, "status": "completed", "prompt": prompt, "folder": name}
    job |= {"submitted_at": "2026-11-22T12:15:00Z", "cost_usd": 0.08, "output": {"seed": "24521"}}
    job |= {"pictures": {picture: f"{picture}.png" for picture in FOUR}, "downloaded": True}
    urls = {picture: f"https://cdn.example/{picture}.png" for picture in FOUR}
    return {**job, "urls": urls, "resume": None, **changes}


def written(folder: Path, *jobs: dict[str, Any]) -> Path:
    gallery.write(folder / report.GALLERY, jobs)
    assert [path.name for path in folder.iterdir() if path.is_file()] == [report.GALLERY]
    return folder / report.GALLERY


def test_the_page_says_what_there_is_newest_first(tmp_path: Path, browser: Browser) -> None:
    jobs = [
        made(tmp_path, "old", "an old boat", submitted_at="2026-11-20T12:00:00Z", cost_usd=0.125),
        made(tmp_path, "new", "a lighthouse --ar 1:1 --raw"),
        made(tmp_path, "zone", "half an hour before", submitted_at="2026-11-22T13:45:00+02:00"),
        made(tmp_path, "x", "", submitted_at="yesterday", cost_usd="free", output=[], error="none"),
    ]
    browser.go(written(tmp_path, *jobs))
    times = [datetime(2026, 11, day, 12, 15, tzinfo=timezone.utc) for day in (22, 20)]
    new, old = (time.astimezone() for time in times)
    assert browser.run(TEXTS % "h1, output") == [tmp_path.name, "16 pictures · 4 jobs · $0.285"]
    days = [f"{time:%A, %d %B %Y}" for time in (new, old)]
    assert browser.run(TEXTS % "h2") == [*days, "Date unknown"]
    headings = [jobs[1]["prompt"], "half an hour before", "an old boat", "No prompt on record"]
    assert browser.run(TEXTS % "h3") == headings
    assert browser.run(TEXTS % "h3 bdi")[0] == "--ar 1:1 --raw"
    facts = browser.run(TEXTS % ".row p")
    assert facts[::3] == [f"{new:%d %b %Y, %H:%M} · $0.08 · Seed 24521 · new", "yesterday · x"]


@in_chromium
@pytest.mark.parametrize("width", [1280, 400])
def test_all_four_pictures_are_in_view(tmp_path: Path, browser: Browser, width: int) -> None:
    jobs = [made(tmp_path, f"job{n}", f"x --ar {shape}") for n, shape in enumerate(SHAPES)]
    browser.go(written(tmp_path, *jobs), width, 800)
    for n, shape in enumerate(SHAPES):
        for _ in range(2 * (n > 0)):  # the first is in view as the page opens
            browser.run(f"({CARD % n}.scrollIntoView(), {FRAMES})")
        heading, *pictures = browser.run(BOXES % n)
        rows = 1 if width == 1280 and shape in UPRIGHT else 2
        assert len({round(top) for _, top, _, _ in pictures}) == rows, shape
        assert all(left >= 0 and right <= width for left, _, right, _ in pictures), shape
        assert heading[1] >= 0, shape
        assert width == 400 or max(bottom for *_, bottom in pictures) <= 800, shape


def test_the_viewer_goes_from_picture_to_picture_by_keys(tmp_path: Path, browser: Browser) -> None:
    boat = made(tmp_path, "b", "an old boat", submitted_at="2026-11-21T12:00:00Z")
    browser.go(written(tmp_path, made(tmp_path, ODD, "a lighthouse"), boat))
    said = VISIBLE % "#path, #place, #words"
    browser.click("document.querySelectorAll('.pictures a')[2]")
    assert browser.run(said) == [f"{ODD}/3.png", "3 of 8", "a lighthouse"]
    assert browser.run("large.decode().then(() => large.naturalWidth)") == 320
    for keys, seen in ((3, "b/2.png"), (4, "b/4.png")):  # nothing comes after the last
        for _ in range(keys):
            browser.press("ArrowRight")
        assert browser.run(said)[0] == seen
    browser.press("ArrowLeft")
    browser.click(COPY % "path")
    assert browser.run("got") == "b/3.png"
    browser.run("(shut = new Promise(done => { viewer.onclose = () => done(); }), 0)")
    browser.press("Escape")
    browser.run("shut")
    assert browser.run(said) == []
    assert browser.run("document.activeElement.getAttribute('href')") == "b/3.png"
    browser.press("Enter")
    assert browser.run(said) == ["b/3.png", "7 of 8", "an old boat"]


def test_the_filter_shows_the_jobs_that_have_all_words(tmp_path: Path, browser: Browser) -> None:
    prompts = ["a quiet harbour --ar 3:2", "A Café by the harbour", "منارة عند الفجر", "<b>cat</b>"]
    times = [{"submitted_at": f"2026-11-2{n}T12:00:00Z"} for n in range(4)]
    jobs = [made(tmp_path, f"job-{n}", prompts[n], **times[n]) for n in range(4)]
    jobs[3] |= {"status": "failed", "pictures": {}}
    browser.go(written(tmp_path, *jobs))
    type_in = "(filter.value = %s, filter.dispatchEvent(new Event('input')), 0)"
    found = {"HARBOUR quiet": [0], " cafe\u0301 ": [1], "منارة": [2], "</b>": [3], "failed": [3]}
    for words, numbers in (found | {"JOB-1": [1], "harbour cat": [], "harbour": [1, 0]}).items():
        browser.run(type_in % json.dumps(words))
        assert browser.run(VISIBLE % "h3") == [prompts[n] for n in numbers], words
        assert len(browser.run(VISIBLE % "h2")) == len(numbers), words
        assert browser.run(TEXTS % "output") == [f"{len(numbers)} of 4 jobs"]
    browser.click("document.querySelectorAll('article:not([hidden]) .pictures a')[3]")
    browser.press("ArrowRight")
    assert browser.run(TEXTS % "#path, #place") == ["job-0/1.png", "5 of 8"]
    browser.run(type_in % "''")
    assert browser.run(TEXTS % "output") == ["12 pictures · 4 jobs · 1 failed · $0.32"]


@in_chromium
@pytest.mark.parametrize("prompt", HOSTILE, ids=range(len(HOSTILE)))
def test_a_prompt_stays_text(tmp_path: Path, browser: Browser, prompt: str) -> None:
    shown = re.sub("[\0\ud800-\udfff]", "\ufffd", prompt)  # HTML cannot hold these
    texts = {"error": {"message": prompt}, "output": {"seed": prompt}, "status": "failed"}
    browser.go(written(tmp_path, made(tmp_path, ODD, prompt, **texts)), 400, 800)
    browser.click(COPY % "prompt")
    assert browser.run("got") == shown
    assert browser.run(TEXTS % ".note") == [shown.strip()]
    assert browser.run("[document.title, document.images.length]") == [tmp_path.name, 5]
    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "it sticks out"
    browser.run("(e => (e.src = links[0].href, e.decode().then(() => 1)))(new Image())")


@in_chromium
def test_no_script_or_style_works_but_the_pages_own(tmp_path: Path, window: Browser) -> None:
    page = written(tmp_path, made(tmp_path))
    attack = "<main><img src=x onerror='document.title=1'><script>document.title=2</script>"
    attack += "<style>main a { font-style: italic }</style><img src='https://cdn.example/1.png'>"
    page.write_text(page.read_text("utf-8").replace("<main>", attack), "utf-8")
    window.go(page)
    assert window.run("[document.title, document.images.length]") == [tmp_path.name, 7]
    assert window.run("getComputedStyle(links[0]).fontStyle") == "normal"
    failed = [e["params"] for e in window.events if e["method"] == "Network.loadingFailed"]
    assert "csp" in [event.get("blockedReason") for event in failed]


@in_chromium
def test_a_job_that_is_not_done_says_why_and_how_to_go_on(tmp_path: Path, browser: Browser) -> None:
    command = "uv run 'a b'/get_task.py id --wait"
    jobs = [made(tmp_path, name, resume=command) for name in "abcd"]
    jobs[0] |= {"status": "failed", "error": {"message": "Banned <b>word</b>"}}
    jobs[1] |= {"status": "hovering", "pictures": {}, "cost_usd": None, "downloaded": False}
    jobs[2]["downloaded"] = False
    jobs[2]["pictures"] |= {"2": None, "3": None}
    jobs[2]["urls"]["3"] = "javascript:document.title=1"
    jobs[3]["pictures"] |= {"1": None, "4": None, "grid": None}
    browser.go(written(tmp_path, *jobs))
    assert browser.run(TEXTS % "b") == ["Failed", "Unfinished", "Incomplete", ""]
    counts = "8 pictures · 4 jobs · 1 failed · 1 incomplete · 1 unfinished · $0.24"
    assert browser.run(TEXTS % "output, p.note") == [counts, "Banned <b>word</b>"]
    assert browser.run(TEXTS % "pre") == [command, command]
    browser.click(COPY % "command")
    assert browser.run("got") == command
    gone = "Picture %s is not in this folder."
    assert browser.run(TEXTS % ".gap") == [f"{gone % 2} Open it on the web", gone % 3]
    assert browser.run("document.querySelector('.gap a').href") == jobs[2]["urls"]["2"]
    names = f"[...{CARD % 3}.querySelectorAll('.pictures > *')].map(e => e.dataset.name)"
    assert browser.run(names) == ["2", "3"], "what a person deleted leaves no hole"


@in_chromium
def test_on_paper_a_job_is_as_wide_as_the_page(tmp_path: Path, window: Browser) -> None:
    jobs = [made(tmp_path, f"job{n}", f"x --ar {s}") for n, s in enumerate(SHAPES * 2)]
    page = written(tmp_path, *jobs)
    window.call("Emulation.setEmulatedMedia", media="print")
    window.go(page, 718, 1047)  # A4 with Chromium's margins
    assert window.run(VISIBLE % "button, input") == []
    boxes = [window.run(BOXES % n)[1:] for n in range(len(jobs))]
    window.call("Emulation.setEmulatedMedia", media="")
    assert {len({round(top) for _, top, _, _ in four}) for four in boxes} == {1}
    assert all(four[0][0] < 10 and four[-1][2] > 690 for four in boxes)
    window.go(page)
    paper = b64decode(window.call("Page.printToPDF")["data"])
    assert len(re.findall(rb"/Subtype\s*/Image", paper)) >= 4 * len(jobs), "one was not in view"


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    job, page = made(tmp_path), tmp_path / report.GALLERY

    def write_and_read(count: int) -> str:
        gallery.write(page, [job] * count)
        return page.read_text("utf-8")

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(write_and_read, [100, 1] * 20))
    assert all(text.endswith("</html>\n") for text in texts)
    page.unlink()
    page.mkdir()
    with pytest.raises(OSError, match=report.GALLERY):
        gallery.write(page, [job])
    assert {path.name for path in tmp_path.iterdir()} == {"job", report.GALLERY}


def test_the_page_of_a_run_has_the_job_that_is_not_over(tmp_path: Path, sandbox: Sandbox) -> None:
    generate(sandbox, tmp_path, ["a cat", "no-images"], "--concurrency", "1", "--max-wait", "0.3")
    assert (tmp_path / report.GALLERY).read_text("utf-8").count("<article") == 2


def test_a_deleted_page_comes_back_but_no_picture(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / report.GALLERY).write_text("<!doctype html> img-src 'self' file:")  # version 2
    result = generate(sandbox, tmp_path, "a cat").only
    page, picture = Path(result["files"]["gallery"]), Path(result["files"]["images"][1])
    assert page.read_text("utf-8").count("<img src") == 4
    page.unlink()
    picture.unlink()
    generate(sandbox, tmp_path, "a cat")
    assert re.findall(r'<img src="[^"]*/(\w+)\.png"', page.read_text("utf-8")) == ["1", "3", "4"]
    page.write_text("my own page")
    assert "gallery" not in total(generate(sandbox, tmp_path, ["a cat"]))
    assert page.read_text() == "my own page"
