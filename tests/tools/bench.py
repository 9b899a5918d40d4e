#!/usr/bin/env python3
"""What the scripts cost in time and memory, each row next to a yardstick in the same run.

    uv run tests/tools/bench.py [--tiny] [ROW ...]

Prints a Markdown table. A figure is the median over whole processes that are started in turn with
their yardstick (A B A B), the ratio is the median of the pairs' ratios. All rows take about six
minutes; --tiny only shows that a row runs. The exit code says nothing about the targets: a busy
machine is not a fault. Needs Linux or macOS.
"""

import argparse
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
import uuid
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sandbox as sandbox_module
from running import SCRIPTS, made, small_picture
from sandbox import Fault, Request, Sandbox

PROMPT = "a lighthouse at dawn"
TRIP = 0.1  # seconds of a request to a Far sandbox

BARE_REQUESTS = """\
import os
import requests
url = os.environ["LEGNEXT_BASE_URL"] + "/api/account/balance"
answer = requests.get(url, headers={"x-api-key": os.environ["LEGNEXT_API_KEY"]}, timeout=30)
answer.raise_for_status()
print(answer.json()["data"])
"""

BARE_PYTHON = "import argparse, json; argparse.ArgumentParser().parse_args(); print(json.dumps({}))"
BARE_DOWNLOAD = """\
import requests, sys
open(sys.argv[2], "wb").write(requests.get(sys.argv[1], timeout=30).content)
"""
BARE_READ = """\
import json, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    contents = {name: open(os.path.join(folder, name), "rb").read() for name in names}
    json.loads(contents.get("job.json", "null"))
"""
# Linux counts a peak of memory from that of the process that forked, so a small one has to do it.
STARTER = """\
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - began
print(json.dumps([code, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


class Size(NamedTuple):
    """How much is measured."""

    starts: int = 21  # rounds of short commands
    rounds: int = 3  # of long ones
    wait: float = 10.0  # seconds to the first status check of one job
    service_time: float = 2.0  # seconds that a job of a batch takes
    prompts: int = 60
    many: int = 600
    few: int = 6
    known: int = 10_000
    records: int = 1000


TINY = Size(1, 1, 0.3, 0.2, 7, 12, 2, 30, 20)


class Far(Sandbox):
    """A sandbox that meets each request TRIP seconds later."""

    def arrive(self, request: Request) -> Fault | None:
        time.sleep(TRIP)
        return super().arrive(request)


class Bench:
    """A folder for all files, how much is measured, and a finished job to copy."""

    def __init__(self, folder: Path, size: Size) -> None:
        """Make the job with a real run, which also writes the bytecode of all modules."""
        self.folder, self.size = folder, size
        with Sandbox(service_time=0.1) as box:
            self.generate(box, PROMPT, "--initial-wait", "0.2", "--output-dir", self.new_folder())
        (self.model,) = folder.glob("*/*/job.json")

    def new_folder(self) -> str:
        """Return the name of an --output-dir that does not exist yet."""
        return str(self.folder / f"pictures-{uuid.uuid4()}")

    def run(self, box: Sandbox, *command: str) -> tuple[float, float]:
        """Run a script of ours, or code, to its end; return its seconds and peak MB (macOS: kB)."""
        env = {"PATH": os.defpath, "LEGNEXT_API_KEY": box.key, "LEGNEXT_BASE_URL": box.url}
        words = [str(SCRIPTS / command[0])] if command[0].endswith(".py") else ["-c", command[0]]
        starter = [sys.executable, "-c", STARTER, sys.executable, *words, *command[1:]]
        ended = subprocess.run(starter, env=env, cwd=self.folder, capture_output=True, check=True)
        code, seconds, peak = json.loads(ended.stdout)
        if code:
            raise RuntimeError(f"exit {code} of {command}: {ended.stderr.decode()}")
        return seconds, peak / 1000

    def generate(self, box: Sandbox, *args: str) -> tuple[float, float]:
        """Run generate_and_wait.py with frequent status checks."""
        return self.run(box, "generate_and_wait.py", *args, "--interval", "0.1", "--quiet")

    def batch(self, box: Sandbox, count: int, directory: str = "") -> tuple[float, float]:
        """Run so many different prompts; the first status check comes when a job can be done."""
        file = self.folder / "prompts.txt"
        file.write_text("".join(f"a ship, number {n}\n" for n in range(count)), "utf-8")
        args = ("--initial-wait", str(box.service_time), "--prompts-file", str(file))
        return self.generate(box, *args, "--output-dir", directory or self.new_folder())

    def records(self, count: int) -> tuple[str, str]:
        """Return a directory of so many copies of the job, with a file of their prompts."""
        directory, text = Path(self.new_folder()), self.model.read_text("utf-8")
        job_id, prompts = json.loads(text)["job_id"], [f"{PROMPT} {n}" for n in range(count)]
        for number, prompt in enumerate(prompts):
            folder = directory / f"job-{number}"
            shutil.copytree(self.model.parent, folder, copy_function=os.link)  # faster
            (folder / "job.json").unlink()
            own = text.replace(job_id, str(uuid.uuid4())).replace(PROMPT, prompt)
            (folder / "job.json").write_text(own, "utf-8")
        directory.with_suffix(".txt").write_text("\n".join(prompts), "utf-8")
        return str(directory), str(directory.with_suffix(".txt"))


Head = tuple[str, str, float | None]  # what, against what, target; None: for information
Measure = Callable[[], float]


def compare(head: Head, rounds: int, ours: Measure, theirs: Measure, unit: str = "s") -> str:
    """Measure both in turn; return the row of the table."""
    what, yardstick, target = head
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    medians = (statistics.median(figures) for figures in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    met = ("", "") if target is None else (f"<= {target:g}", "yes" if ratio <= target else "**no**")
    cells = [what, yardstick, *(f"{n:.4g} {unit}" for n in medians), f"{ratio:.3f}", *met]
    return f"| {' | '.join(cells)} |"


def start(bench: Bench, head: Head, bare: str, *command: str) -> str:
    with Sandbox() as box:
        return compare(
            head,
            bench.size.starts,
            lambda: bench.run(box, *command)[0],
            lambda: bench.run(box, bare)[0],
        )


def job(bench: Bench) -> str:
    """Over a long line: what is above the schedule is start-up, and round trips too many."""
    wait, trips = bench.size.wait, 4  # balance, submit, one status check, the pictures at once
    args = (PROMPT, "--initial-wait", str(wait), "--output-dir")
    with Far(service_time=wait * 0.9) as box:
        return compare(
            ("a job, 100 ms a request", f"{wait:g} s and {trips} requests", 1.02),
            bench.size.rounds,
            lambda: bench.generate(box, *args, bench.new_folder())[0],
            lambda: wait + trips * TRIP,
        )


def batch(bench: Bench) -> str:
    size = bench.size
    with Sandbox(service_time=size.service_time, credits=10**9) as box:
        return compare(
            (f"{size.prompts} prompts in {box.slots} slots", "work over slots", 1.05),
            size.rounds,
            lambda: bench.batch(box, size.prompts)[0],
            lambda: math.ceil(size.prompts / box.slots) * size.service_time,
        )


def pictures(bench: Bench) -> str:
    """From the first request for a picture to the end of the process."""
    with Sandbox(service_time=0, image_delay=0.2, image_padding=4_000_000) as box:
        job_id = made(box)
        url = box.url + box.jobs[job_id].paths[1]

        def run(*command: str) -> float:
            box.requests.clear()
            bench.run(box, *command)
            return time.monotonic() - min(r.at for r in box.requests if r.route == "image")

        return compare(
            ("five pictures of 4 MB, 200 ms each", "one of them", 1.6),
            bench.size.starts,
            lambda: run("get_task.py", job_id, "--output-dir", bench.new_folder()),
            lambda: run(BARE_DOWNLOAD, url, str(bench.folder / "one.png")),
        )


def known(bench: Bench) -> str:
    directory, prompts = bench.records(bench.size.known)
    with Sandbox() as box:
        line = compare(
            (f"{bench.size.known:,} known prompts", "their records and pictures read", 2.5),
            bench.size.rounds,
            lambda: bench.generate(box, "--prompts-file", prompts, "--output-dir", directory)[0],
            lambda: bench.run(box, BARE_READ, directory)[0],
        )
        assert not box.posts, "known prompts were bought"
    return line


def memory(bench: Bench) -> str:
    size = bench.size
    with Sandbox(service_time=0.1, credits=10**9) as box:
        return compare(
            (f"peak memory of {size.many} prompts", f"of {size.few}", 1.3),
            1,
            lambda: bench.batch(box, size.many)[1],
            lambda: bench.batch(box, size.few)[1],
            "MB",
        )


def growth(bench: Bench) -> str:
    size, (full, _) = bench.size, bench.records(bench.size.records)
    with Sandbox(service_time=size.service_time / 2, credits=10**9) as box:
        return compare(
            (f"{size.prompts} new prompts, {size.records:,} records", "without records", 1.2),
            size.rounds,
            lambda: bench.batch(box, size.prompts, shutil.copytree(full, bench.new_folder()))[0],
            lambda: bench.batch(box, size.prompts)[0],
        )


def listing(bench: Bench) -> str:
    directory, _ = bench.records(bench.size.records)
    with Sandbox() as box:
        return compare(
            (f"{bench.size.records:,} records listed", "three seconds", 1.0),
            bench.size.rounds,
            lambda: bench.run(box, "get_task.py", "--output-dir", directory)[0],
            lambda: 3.0,
        )


VERIFY = ("`verify_api_key.py`", "six bare lines of `requests`", 0.95)
HELP, DRY_RUN = ((f"`{flag}`", "bare argparse and json", None) for flag in ("--help", "--dry-run"))
GENERATE = "generate_and_wait.py"
ROWS: dict[str, Callable[[Bench], str]] = {
    "verify": lambda bench: start(bench, VERIFY, BARE_REQUESTS, "verify_api_key.py"),
    "help": lambda bench: start(bench, HELP, BARE_PYTHON, GENERATE, "--help"),
    "dry-run": lambda bench: start(bench, DRY_RUN, BARE_PYTHON, GENERATE, PROMPT, "--dry-run"),
    "job": job,
    "batch": batch,
    "pictures": pictures,
    "known": known,
    "memory": memory,
    "growth": growth,
    "listing": listing,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--tiny", action="store_true", help="only show that it runs")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    versions = f"Python {platform.python_version()}, requests {metadata.version('requests')}"
    print(f"{platform.system()}, {os.cpu_count()} cores, {versions}\n")
    print("| what | against | ours | theirs | ratio | target | met |\n" + "|---" * 7 + "|")
    small = mock.patch.object(sandbox_module, "picture", small_picture)
    with tempfile.TemporaryDirectory() as folder, small:
        bench = Bench(Path(folder), TINY if options.tiny else Size())
        for name in options.rows or ROWS:
            print(ROWS[name](bench), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
