#!/usr/bin/env python3
"""What an agent feels, measured: each row against its yardstick, side by side in one run on the sandbox.

    uv run --group bench tests/commands/bench.py [--json] [--only PART ...]

Prints a Markdown table, its rows ready to paste. Every figure is the median of whole processes, started with
this interpreter and an environment of their own, in turn (A B A B ...), after a first round that is not
counted: it writes the bytecode. The vendor's SDK is a package `legnext` like ours: it is only imported in
a process of its own. uv works offline, with what its cache has: run a script with it first.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import sandbox as sandbox_module  # noqa: E402
from painting import picture  # noqa: E402
from sandbox import PNG_START, Fault, Request, Sandbox  # noqa: E402

SCRIPTS = HERE.parents[1] / "scripts"
TRIP = 0.1
PROMPT = "a lighthouse at dawn --ar 16:9 --seed 1"  # one seed: the sandbox paints its pictures only once

BARE = """\
import os
import requests
url = os.environ["LEGNEXT_BASE_URL"] + "/api/account/balance"
answer = requests.get(url, headers={"x-api-key": os.environ["LEGNEXT_API_KEY"]}, timeout=30)
answer.raise_for_status()
print(answer.json()["data"])
"""

SDK = """\
import os
from legnext import Client
with Client(os.environ["LEGNEXT_API_KEY"], os.environ["LEGNEXT_BASE_URL"] + "/api") as client:
    print(client.account.balance())
"""

# Reads what the same command again has to read: each record, and each image (a few bytes here, head and end).
BARE_LOOP = """\
import json, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        if name == "job.json":
            json.loads(content)
"""

BARE_FETCH = """\
import sys
import requests
with open(sys.argv[2], "wb") as file:
    file.write(requests.get(sys.argv[1], timeout=30).content)
print("{}")
"""

# Written as at the end of a run, in a process that imports it anew.
WRITE_GALLERY = """\
import sys, time
sys.path.insert(0, sys.argv[1])
from legnext.disk.gallery import Gallery
from legnext.disk.output_dir import OutputDir
gallery = Gallery(OutputDir(sys.argv[2], print), str)
began = time.perf_counter()
gallery.changed()
print(time.perf_counter() - began)
"""

# The page in a frame: its load event comes when it is parsed and what has to be loaded first is.
FIRST_PICTURE = """\
document.addEventListener("load", event => {
  if (event.target.localName === "img") self.firstPicture ??= performance.now();
}, true);
"""
WHEN_SHOWN = "new Promise(done => setInterval(() => self.firstPicture && done(firstPicture), 10))"

PEERS = {"bare": BARE, "sdk": SDK, "loop": BARE_LOOP, "fetch": BARE_FETCH, "page": WRITE_GALLERY}

# Linux counts a process's peak from that of the process which started it, so a small one has to start them.
STARTER = """\
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
if hasattr(os, "wait4"):
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
else:
    process.wait()
    peak = None
print(json.dumps([process.returncode, time.perf_counter() - began, peak]))
"""


class Size(NamedTuple):
    """How much is measured; the suite runs a small one."""

    starts: int = 41
    uvs: int = 11
    phases: int = 20
    trips: int = 3
    initial_wait: float = 10.0  # of those, and a little more than their jobs take
    downloads: int = 15
    batches: int = 2
    prompts: int = 60
    service_time: float = 2.0  # of those prompts' jobs; Legnext's take half a minute and more
    few: int = 6
    many: int = 600
    known: int = 10_000
    readings: int = 7
    jobs_on_page: int = 2000
    openings: int = 5


class Row(NamedTuple):
    """One line of the table: two medians, or counts, with the aim for their ratio; None: not to be had."""

    what: str
    against: str
    unit: str
    ours: float | None
    theirs: float | None
    aim: float | None  # None: told, and nothing of ours to mend
    equal: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours in units of theirs."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None where that could not be measured."""
        if self.ratio is None or self.aim is None:
            return None
        return self.ratio == self.aim if self.equal else self.ratio <= self.aim

    def cells(self) -> list[str]:
        """Return the row as the table shows it."""
        figures = ["-" if n is None else f"{n:.4g} {self.unit}".strip() for n in (self.ours, self.theirs)]
        ratio = "-" if self.ratio is None else f"{self.ratio:.3f}"
        aim = "equal" if self.equal else "-" if self.aim is None else f"<= {self.aim:g}"
        met = {True: "yes", False: "**no**", None: "-" if self.aim is None else "not measured"}[self.met]
        return [self.what, self.against, *figures, ratio, aim, met]


class Sample(NamedTuple):
    """What one process took; peak memory only where the system tells it (Linux, macOS)."""

    seconds: float
    peak: float | None


class Far(Sandbox):
    """A sandbox that each request takes TRIP seconds to reach and come back from."""

    def arrive(self, request: Request) -> Fault | None:
        """Note a request, after its way."""
        time.sleep(TRIP)
        return super().arrive(request)


class Bench:
    """A folder for peers and results, and the environment that every process gets."""

    def __init__(self, folder: Path, size: Size) -> None:
        """Write the peers."""
        self.folder = folder
        self.size = size
        self._numbers = itertools.count()
        for name, code in PEERS.items():
            (folder / f"{name}.py").write_text(code, encoding="utf-8")

    def new_folder(self) -> str:
        """Return the name of an --output-dir that nothing stands in yet."""
        return str(self.folder / f"pictures-{next(self._numbers)}")

    def environment(self, sandbox: Sandbox | None) -> dict[str, str]:
        """Return a clean environment, without what slows an interpreter down."""
        env = {"PATH": os.defpath, "HOME": str(self.folder), "USERPROFILE": str(self.folder)}
        env |= {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ}
        if sandbox:
            env |= {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": sandbox.url}
        return env

    def command(self, script: str, *args: str) -> list[str]:
        """Return the command line of a script of ours or of a peer."""
        ours = SCRIPTS / script
        return [sys.executable, str(ours if ours.exists() else self.folder / script), *args]

    def measure(self, command: Sequence[str], sandbox: Sandbox | None = None) -> Sample:
        """Run a process to its end."""
        result = subprocess.run(
            [sys.executable, "-c", STARTER, *command],
            env=self.environment(sandbox),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        code, seconds, peak = json.loads(result.stdout)
        if code:
            raise RuntimeError(f"exit {code} of {command}: {result.stderr}")
        return Sample(seconds, peak)

    def in_turn(
        self, commands: Mapping[str, tuple[Sequence[str], Sandbox | None]], rounds: int
    ) -> dict[str, float]:
        """Return the median seconds of each command: all of them in turn, the first round uncounted."""
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, (command, sandbox) in commands.items():
                seconds[name].append(self.measure(command, sandbox).seconds)
        return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}

    def line(self, command: Sequence[str], sandbox: Sandbox) -> tuple[dict[str, object], float]:
        """Run a script; return the object that it prints and when it came, in monotonic seconds."""
        with subprocess.Popen(
            command,
            env=self.environment(sandbox),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout
            assert process.stderr
            line = process.stdout.readline()
            came = time.monotonic()
            errors = process.stderr.read()
        if process.returncode:
            raise RuntimeError(f"exit {process.returncode} of {command}: {errors.decode()}")
        body: dict[str, object] = json.loads(line)
        return body, came


def starts(bench: Bench) -> list[Row]:
    """Time the short commands whole; --help and --dry-run as they are used, without a key."""
    with Sandbox() as sandbox:
        commands: dict[str, tuple[Sequence[str], Sandbox | None]] = {
            "bare": (bench.command("bare.py"), sandbox),
            "verify": (bench.command("verify_api_key.py"), sandbox),
            "help": (bench.command("generate_and_wait.py", "--help"), None),
            "dry": (bench.command("generate_and_wait.py", PROMPT, "--dry-run"), None),
        }
        if version("legnext"):
            commands["sdk"] = (bench.command("sdk.py"), sandbox)
        took = {name: 1000 * median for name, median in bench.in_turn(commands, bench.size.starts).items()}
    bare = "bare `requests` script, six lines"
    verify = "`verify_api_key.py`"
    return [
        Row(verify, bare, "ms", took["verify"], took["bare"], 0.9),
        Row(verify, "the vendor's SDK", "ms", took["verify"], took.get("sdk"), 0.42),
        Row("`--help`", bare, "ms", took["help"], took["bare"], 0.22),
        Row("`--dry-run`", bare, "ms", took["dry"], took["bare"], 0.27),
    ]


def uv(bench: Bench) -> list[Row]:
    """Time `uv run -q` of a script, its packages in uv's cache, beside the interpreter alone."""
    took: dict[str, float] = {}
    if found := shutil.which("uv"):
        cache = subprocess.run([found, "cache", "dir"], capture_output=True, text=True, check=True).stdout
        script = str(SCRIPTS / "verify_api_key.py")
        where = ("--offline", "--cache-dir", cache.strip(), "--python", sys.executable)
        with Sandbox() as sandbox, contextlib.suppress(RuntimeError):  # nothing in the cache
            commands = {"uv": [found, "run", "-q", *where, script], "python": [sys.executable, script]}
            took = bench.in_turn({name: (words, sandbox) for name, words in commands.items()}, bench.size.uvs)
    ours, theirs = (took[name] * 1000 if took else None for name in ("uv", "python"))
    return [Row("`uv run -q` of it, warm", "`python3` on it", "ms", ours, theirs, None)]


def notice(bench: Bench) -> list[Row]:
    """Time from the end of a job to its line on stdout; jobs end at every phase between two looks."""
    interval = 0.2
    late = []
    with Sandbox() as sandbox:
        for phase in range(bench.size.phases):
            sandbox.service_time = 0.5 + interval * phase / bench.size.phases
            schedule = ("--initial-wait", "0.1", "--interval", str(interval))
            body, came = bench.line(bench.command("generate_and_wait.py", PROMPT, *schedule), sandbox)
            late.append(came - sandbox.jobs[str(body["job_id"])].submitted - sandbox.service_time)
    worst = "end of a job to its line on stdout, at the worst"
    return [Row(worst, "the interval", "ms", 1000 * max(late), 1000 * interval, 1.0)]


def counts(bench: Bench) -> list[Row]:
    """Count what the API is asked; the job ends well between two looks, so the schedule tells how many."""
    initial_wait, interval, service_time = 0.5, 0.4, 1.5
    schedule = ("--initial-wait", str(initial_wait), "--interval", str(interval))
    with Sandbox(service_time=service_time) as sandbox:
        bench.line(bench.command("generate_and_wait.py", PROMPT, *schedule), sandbox)
        looks = sum(request.route == "job" for request in sandbox.requests)
        connections = sandbox.connections()
    due = 1 + math.ceil((service_time - initial_wait) / interval)
    return [
        Row("looks at a job", "the schedule's own count", "", looks, due, 1, equal=True),
        Row("connections to the API in a run", "one", "", connections, 1, 1, equal=True),
    ]


def trips(bench: Bench) -> list[Row]:
    """Time whole runs over a long line: what is above the schedule is start-up, and round trips too many."""
    rows = []
    wait = bench.size.initial_wait
    with Far(service_time=wait * 0.9) as sandbox:
        for what, least in (("", 3), (" with `--output-dir`", 4)):
            took = []
            for _ in range(bench.size.trips):
                where = ("--output-dir", bench.new_folder()) if what else ()
                command = bench.command("generate_and_wait.py", PROMPT, "--initial-wait", str(wait), *where)
                took.append(bench.measure(command, sandbox).seconds)
            ideal = wait + least * TRIP
            against = f"the first look at {wait:g} s and {least} round trips"
            rows.append(
                Row(
                    f"a job, 100 ms a request,{what or ' no folder'}",
                    against,
                    "s",
                    statistics.median(took),
                    ideal,
                    1.02,
                )
            )
    return rows


def downloads(bench: Bench) -> list[Row]:
    """Time five images and one, both from the first request for one to the line on stdout."""
    ours: list[float] = []
    theirs: list[float] = []
    with Sandbox(service_time=0.0, image_padding=2_000_000, image_delay=0.05) as sandbox:
        body, _came = bench.line(bench.command("imagine.py", PROMPT), sandbox)
        job_id = str(body["job_id"])
        urls = [sandbox.url + path for path in sandbox.jobs[job_id].paths]
        for url in urls:  # painted now, and not while somebody waits
            with urllib.request.urlopen(url) as answer:
                answer.read()
        for _ in range(bench.size.downloads + 1):
            five = bench.command("get_task.py", job_id, "--output-dir", bench.new_folder())
            one = bench.command("fetch.py", urls[1], str(bench.folder / "one.png"))
            for command, taken in ((five, ours), (one, theirs)):
                sandbox.requests.clear()
                _body, came = bench.line(command, sandbox)
                taken.append(came - min(r.at for r in sandbox.requests if r.route == "image"))
    all_five, only_one = (1000 * statistics.median(taken[1:]) for taken in (ours, theirs))
    return [Row("five images of 2 MB, 50 ms a request", "one such request", "ms", all_five, only_one, 1.5)]


@contextlib.contextmanager
def unpainted() -> Iterator[None]:
    """Have the sandbox serve one small picture: what it paints for hundreds of prompts is not measured."""
    with mock.patch.object(sandbox_module, "picture", return_value=picture(PROMPT, "0", 1)):
        yield


def batches(bench: Bench) -> list[Row]:
    """Time many prompts with images on the six slots; the first look comes when a job can be done."""
    service_time = bench.size.service_time
    schedule = ("--initial-wait", str(service_time), "--interval", "0.1", "--max-wait", "60")
    with unpainted(), Sandbox(service_time=service_time, points=10**9) as sandbox:
        slots = sandbox.slots
        taken = [_batch(bench, sandbox, bench.size.prompts, schedule) for _ in range(bench.size.batches + 1)]
    seconds = statistics.median(sample.seconds for sample in taken[1:])
    ideal = math.ceil(bench.size.prompts / slots) * service_time
    return [Row(f"{bench.size.prompts} prompts, six slots", "work / slots", "s", seconds, ideal, 1.03)]


def memory(bench: Bench) -> list[Row]:
    """Compare the peak memory of a long batch with that of a short one, images included."""
    schedule = ("--initial-wait", "0.1", "--interval", "0.1", "--max-wait", "60")
    with unpainted(), Sandbox(service_time=0.1, points=10**9) as sandbox:
        few = [_batch(bench, sandbox, bench.size.few, schedule).peak for _ in range(3)]
        many = _batch(bench, sandbox, bench.size.many, schedule).peak
    ours, theirs = (
        many and many / 1e6,
        statistics.median(peak / 1e6 for peak in few if peak) if many else None,
    )
    what = f"peak memory, {bench.size.many} prompts with images"
    return [Row(what, f"{bench.size.few} prompts", "MB", ours, theirs, 1.15)]


def _batch(bench: Bench, sandbox: Sandbox, count: int, schedule: Sequence[str]) -> Sample:
    many = bench.folder / f"prompts-{count}.txt"
    # Each its own: submits of one prompt go out a second apart, which tells its records from its traces.
    many.write_text("".join(f"{PROMPT}{number}\n" for number in range(count)), encoding="utf-8")
    args = ("--prompts-file", str(many), *schedule, "--output-dir", bench.new_folder())
    return bench.measure(bench.command("generate_and_wait.py", *args), sandbox)


def known(bench: Bench) -> list[Row]:
    """Time prompts whose jobs and images are all known from an earlier run."""
    folder = bench.new_folder()
    many = bench.folder / "known.txt"
    with many.open("w", encoding="utf-8") as file:
        for number in range(bench.size.known):
            prompt = f"a lighthouse at dawn, number {number} --ar 16:9"
            file.write(f"{prompt}\n")
            remember(Path(folder), prompt)
    again = bench.command(
        "generate_and_wait.py", "--prompts-file", str(many), "--output-dir", folder, "--quiet"
    )
    with Sandbox() as sandbox:
        took = bench.in_turn(
            {"again": (again, sandbox), "loop": (bench.command("loop.py", folder), None)},
            bench.size.readings,
        )
        assert not sandbox.requests  # nothing is asked of the API for what is known
    assert not (Path(folder) / "gallery.html").exists()  # nothing changed: no page was written
    what = f"{bench.size.known:,} prompts known from an earlier run"
    return [Row(what, "a bare loop reading the same files", "s", took["again"], took["loop"], 1.8)]


def galleries(bench: Bench) -> list[Row]:
    """Time the writing of a large page, and its opening in Chromium beside that of a small one."""
    from PIL import Image

    small = BytesIO()
    Image.new("RGB", (16, 9)).save(small, "PNG")
    folders = {}
    for count in (20, bench.size.jobs_on_page):
        folders[count] = bench.new_folder()
        for number in range(count):
            remember(Path(folders[count]), f"a lighthouse, number {number} --ar 16:9", small.getvalue())
    wrote: dict[int, list[float]] = {count: [] for count in folders}
    for count, folder in list(folders.items()) * 3:
        command = bench.command("page.py", str(SCRIPTS), folder)
        done = subprocess.run(command, env=bench.environment(None), capture_output=True, check=True)
        wrote[count].append(float(done.stdout))
    many = bench.size.jobs_on_page
    opened = {count: _opened(bench, folder) for count, folder in folders.items()}
    what = f"gallery of {many:,} jobs"
    return [
        Row(f"{what}, written", "one second", "s", statistics.median(wrote[many]), 1.0, 1),
        Row(f"{what}, first picture in Chromium", "of 20", "ms", opened[many], opened[20], 1.5),
    ]


def _opened(bench: Bench, folder: str) -> float | None:
    """Return the milliseconds until Chromium shows the page's first picture, None without Chromium."""
    from browser import new_page, program, started

    if not (program() and bench.size.openings):
        return None
    took = []
    with started(bench.folder) as browser:
        new_page(browser)
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=FIRST_PICTURE)
        for _ in range(bench.size.openings + 1):
            browser.call("Page.navigate", url="about:blank")
            browser.go(Path(folder) / "gallery.html")
            took.append(float(browser.run(WHEN_SHOWN)))
    return statistics.median(took[1:])


def remember(folder: Path, prompt: str, image: bytes = PNG_START + b"\0\0\0\0IEND\xaeB`\x82") -> None:
    """Put a completed job on record, with five images that have a head and an end."""
    job_id = str(uuid.uuid4())
    urls = [f"https://cdn.legnext.ai/temp/{job_id}_{number}.png" for number in range(1, 5)]
    job = {
        "job_id": job_id,
        "status": "completed",
        "output": {"image_url": urls[0], "image_urls": urls, "seed": "2452171661"},
        "meta": {"created_at": "2025-12-24T04:24:18Z", "ended_at": "2025-12-24T04:24:49Z"},
        "prompt": prompt,
        "submitted_at": "2025-12-24T04:24:18Z",
    }
    (folder / job_id).mkdir(parents=True)
    (folder / job_id / "job.json").write_text(json.dumps(job, indent=2), encoding="utf-8")
    for name in ("grid", "1", "2", "3", "4"):
        (folder / job_id / f"{name}.png").write_bytes(image)


def version(package: str) -> str | None:
    """Return the version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def machine() -> str:
    """Say what the figures were measured on, without naming it."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    peers = (f"{name} {version(name) or 'not installed'}" for name in ("requests", "legnext"))
    return ", ".join([system, python, *peers])


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    part.__name__: part
    for part in (starts, uv, notice, counts, trips, downloads, batches, memory, known, galleries)
}


def measure(size: Size, names: Sequence[str] = tuple(PARTS)) -> list[Row]:
    """Measure the rows of these parts."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), size)
        return [row for name in names for row in PARTS[name](bench)]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = ["what", "against", "ours", "theirs", "ratio", "aim", "met"]
    lines = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows, unrounded, with the machine."""
    told = [{**row._asdict(), "ratio": row.ratio, "met": row.met} for row in rows]
    return json.dumps({"machine": machine(), "rows": told}, indent=2)


def main(argv: Sequence[str]) -> int:
    """Measure and print; the exit code says nothing about the aims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="measure these parts")
    options = parser.parse_args(argv)
    rows = measure(Size(), options.only)
    print(as_json(rows) if options.json else f"{machine()}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
