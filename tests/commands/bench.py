#!/usr/bin/env python3
"""What an agent feels, measured: each row against its yardstick, side by side in one run on the sandbox.

    uv run --group bench tests/commands/bench.py [--json]

Prints a Markdown table. Every figure is the median of whole processes, started with this interpreter and an
environment of their own, in turn (A B A B ...), after a first round that is not counted: it writes the
bytecode. The vendor's SDK is a package `legnext` like ours: it is only ever imported in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from sandbox import PNG_START, Sandbox  # noqa: E402

SCRIPTS = HERE.parents[1] / "scripts"
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

# Reads what --resume has to read: each record, and each image (they are a few bytes here, head and end).
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
    phases: int = 20
    downloads: int = 15
    batches: int = 3
    prompts: int = 60
    service_time: float = 2.0  # of those prompts' jobs; Legnext's take half a minute and more
    known: int = 10_000
    readings: int = 7


class Row(NamedTuple):
    """One line of the table: two medians, or counts, with the aim for their ratio; None: not to be had."""

    what: str
    against: str
    unit: str
    ours: float | None
    theirs: float | None
    aim: float
    equal: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours in units of theirs."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None where that could not be measured."""
        if self.ratio is None:
            return None
        return self.ratio == self.aim if self.equal else self.ratio <= self.aim

    def cells(self) -> list[str]:
        """Return the row as the table shows it."""
        figures = ["-" if n is None else f"{n:.4g} {self.unit}".strip() for n in (self.ours, self.theirs)]
        ratio = "-" if self.ratio is None else f"{self.ratio:.3f}"
        aim = "equal" if self.equal else f"<= {self.aim:g}"
        met = {True: "yes", False: "**no**", None: "not measured"}[self.met]
        return [self.what, self.against, *figures, ratio, aim, met]


class Sample(NamedTuple):
    """What one process took; peak memory only where the system tells it (Linux, macOS)."""

    seconds: float
    peak: float | None


class Bench:
    """A folder for peers and results, and the environment that every process gets."""

    def __init__(self, folder: Path, size: Size) -> None:
        """Write the peers."""
        self.folder = folder
        self.size = size
        self._numbers = itertools.count()
        for name, code in {"bare": BARE, "sdk": SDK, "loop": BARE_LOOP, "fetch": BARE_FETCH}.items():
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
        Row(verify, bare, "ms", took["verify"], took["bare"], 1.03),
        Row(verify, "the vendor's SDK", "ms", took["verify"], took.get("sdk"), 0.5),
        Row("`--help`", bare, "ms", took["help"], took["bare"], 0.25),
        Row("`--dry-run`", bare, "ms", took["dry"], took["bare"], 0.25),
    ]


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
    return [Row(worst, "the interval", "ms", 1000 * max(late), 1000 * interval, 1.1)]


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


def batches(bench: Bench) -> list[Row]:
    """Time many prompts with images on the six slots; the first look comes when a job can be done."""
    service_time = bench.size.service_time
    many = bench.folder / "prompts.txt"
    many.write_text(f"{PROMPT}\n" * bench.size.prompts, encoding="utf-8")
    schedule = ("--initial-wait", str(service_time), "--interval", "0.1", "--max-wait", "60")
    took: dict[str, list[Sample]] = {"one": [], "all": []}
    with Sandbox(service_time=service_time, points=10**9) as sandbox:
        slots = sandbox.slots
        for _ in range(bench.size.batches + 1):
            for name, given in {"one": [PROMPT], "all": ["--prompts-file", str(many)]}.items():
                args = (*given, *schedule, "--output-dir", bench.new_folder())
                took[name].append(bench.measure(bench.command("generate_and_wait.py", *args), sandbox))
    seconds = statistics.median(sample.seconds for sample in took["all"][1:])
    ideal = math.ceil(bench.size.prompts / slots) * service_time
    peaks = {
        name: statistics.median(sample.peak / 1e6 for sample in samples[1:] if sample.peak is not None)
        if samples[0].peak is not None
        else None
        for name, samples in took.items()
    }
    prompts = f"{bench.size.prompts} prompts"
    return [
        Row(f"{prompts}, six slots", "work / slots", "s", seconds, ideal, 1.05),
        Row(f"peak memory, {prompts} with images", "one prompt", "MB", peaks["all"], peaks["one"], 1.3),
    ]


def resumes(bench: Bench) -> list[Row]:
    """Time prompts whose jobs and images are all known from an earlier run."""
    folder = bench.new_folder()
    many = bench.folder / "known.txt"
    with many.open("w", encoding="utf-8") as file:
        for number in range(bench.size.known):
            prompt = f"a lighthouse at dawn, number {number} --ar 16:9"
            file.write(f"{prompt}\n")
            remember(Path(folder), prompt)
    resume = bench.command(
        "generate_and_wait.py", "--prompts-file", str(many), "--output-dir", folder, "--resume", "--quiet"
    )
    with Sandbox() as sandbox:
        took = bench.in_turn(
            {"resume": (resume, sandbox), "loop": (bench.command("loop.py", folder), None)},
            bench.size.readings,
        )
        assert not sandbox.requests  # nothing is asked of the API for what is known
    what = f"{bench.size.known:,} prompts known from an earlier run, `--resume`"
    return [Row(what, "a bare loop reading the same files", "s", took["resume"], took["loop"], 3)]


def remember(folder: Path, prompt: str) -> None:
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
        (folder / job_id / f"{name}.png").write_bytes(PNG_START + b"\0\0\0\0IEND\xaeB`\x82")


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


def measure(size: Size) -> list[Row]:
    """Measure every row."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), size)
        parts = (starts, notice, counts, downloads, batches, resumes)
        return [row for part in parts for row in part(bench)]


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
    options = parser.parse_args(argv)
    rows = measure(Size())
    print(as_json(rows) if options.json else f"{machine()}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
