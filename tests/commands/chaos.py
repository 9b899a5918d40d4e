#!/usr/bin/env python3
"""A campaign against the promise "never lost, never paid twice", thrown by dice and repeatable by its seed.

    uv run tests/commands/chaos.py [--minutes 2 | --seconds S] [--seed N]

Batches run through a relay that resets, delays, cuts and answers in the API's place; they are killed by
signals, run two at once, and are repeated with the same command until it ends by itself. A calm run comes
last, and then the books are compared: the sandbox's, the folder's, and what was printed. Progress is on
stderr, one line of figures on stdout; exit code 1 on any violation. Not for Windows, which lacks the signals.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sandbox as sandbox_module
from forked import Fork
from running import SMALL, Result, Running
from sandbox import Sandbox, padded

CAMPAIGNS_AT_ONCE = 2
AGAIN: tuple[str, ...] = ()  # what makes the same command safe to repeat: nothing
SCHEDULE = ("--initial-wait", "0", "--interval", "0.1", "--max-wait", "5")
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PICTURES = {"grid.png", "1.png", "2.png", "3.png", "4.png"}
# The exit code of each error that can be met here while no job is known.
CODES = {
    **dict.fromkeys(("network_error", "server_error", "rate_limited", "bad_response", "timeout"), 1),
    "submission_unknown": 7,
}

# --- The relay --------------------------------------------------------------------------------------------

HTML = b"<html><h1>a gateway speaks</h1></html>"
ANSWERS = {
    "400": b"400 Bad Request\r\nContent-Type: text/html",
    "429": b"429 Too Many Requests\r\nRetry-After: 1",
    "500": b"500 Internal Server Error",
    "502": b"502 Bad Gateway\r\nContent-Type: text/html",
    "503": b"503 Service Unavailable\r\nRetry-After: 0",
    "login": b"200 OK\r\nContent-Type: text/html",
}
FATES = ("reset", "delay", "drop", "drop", "cut", "cut", "cut by a reset", *ANSWERS)
FAULTY = 0.3  # the share of connections that something happens to


class Relay:
    """A TCP relay before the sandbox; the dice say what each connection meets, until it is `calm`."""

    def __init__(self, origin: Sandbox, seed: int) -> None:
        self._origin = ("127.0.0.1", int(origin.url.rpartition(":")[2]))
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.calm, self.faults = False, list[str]()
        threading.Thread(target=self._serve, args=(seed,), daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self, seed: int) -> None:
        with contextlib.suppress(OSError):  # closed: the end
            for number in itertools.count():
                client, _ = self._server.accept()
                dice = random.Random(f"{seed} {number}")
                threading.Thread(target=self._meet, args=(client, dice), daemon=True).start()

    def _meet(self, client: socket.socket, dice: random.Random) -> None:
        fate = "" if self.calm or dice.random() > FAULTY else dice.choice(FATES)
        self.faults += [fate] * bool(fate)
        with client, contextlib.suppress(OSError):
            if fate == "delay":
                time.sleep(dice.uniform(0.1, 1))
            if fate in ANSWERS:
                client.recv(65536)
                head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (ANSWERS[fate], len(HTML))
                client.sendall(head + HTML)
            elif fate != "reset":
                room = int(10 ** dice.uniform(0, 4)) if "cut" in fate else 0 if fate == "drop" else None
                with socket.create_connection(self._origin) as origin:
                    up = threading.Thread(target=pass_on, args=(client, origin))
                    up.start()
                    pass_on(origin, client, room)
                    # A close sends nothing while somebody reads: first the other way has to end.
                    client.shutdown(socket.SHUT_RD)
                    up.join()
            if "reset" in fate:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def pass_on(source: socket.socket, target: socket.socket, room: int | None = None) -> None:
    """Copy until the source ends, which is passed on, or until there is no more room."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece[:room])
            if room is not None:
                room -= len(piece)
                if room <= 0:
                    return
        target.shutdown(socket.SHUT_WR)


# --- Campaigns --------------------------------------------------------------------------------------------


def hold(promise: object, words: str) -> None:
    if not promise:
        raise AssertionError(words)


def is_up(process: Fork | subprocess.Popen[bytes]) -> bool:
    """Say whether the script has the signals in hand (before that they are Python's), or has ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return process.poll() is not None or bool(caught >> (signal.SIGTERM - 1) & 1)
    return True


class Campaign:
    """One folder and one prompts file, from the first run to the calm one."""

    def __init__(self, seed: int, deadline: float) -> None:
        """Throw the prompts; at `deadline` (monotonic seconds) the calm run is due."""
        self.seed, self.deadline, self.dice = seed, deadline, random.Random(seed)
        some = [
            "a cat a",
            "a cat b",
            "a cat c",
            "a cat d",
            self.dice.choice(("a dog", "one that fails-later")),
        ]
        self.prompts = self.dice.choices(some, k=self.dice.randint(2, 8))
        self.folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        self.pictures = self.folder / "pictures"
        self.figures, self.story = Counter(campaigns=1), [f"prompts: {self.prompts}"]

    def run(self) -> None:
        """Run it all, and remove the folder. Raises AssertionError where a promise is not kept."""
        (self.folder / "prompts.txt").write_text("\n".join(self.prompts))
        service_time = self.dice.uniform(0, 0.6)
        with (
            Sandbox(service_time=service_time, credits=10**6, image_padding=20_000) as sandbox,
            Relay(sandbox, self.seed) as relay,
        ):
            sandbox.image_origin = relay.url
            env = {"LEGNEXT_API_KEY": sandbox.key, "LEGNEXT_BASE_URL": relay.url}
            try:
                while self.round(env) and time.monotonic() < self.deadline:
                    pass
                relay.calm = True
                for path in self.pictures.rglob("*.part"):
                    os.utime(path, (0, 0))  # so old that no run can be at it
                self.compare(sandbox, self.one_run(env))
            finally:
                self.figures.update(requests=len(sandbox.requests), faults=len(relay.faults))
                self.story.append(f"the relay: {', '.join(relay.faults)}")
        shutil.rmtree(self.folder)

    def round(self, env: dict[str, str]) -> bool:
        """Run the command, or two of it at once; say whether one was killed."""
        plans: list[tuple[float, float, signal.Signals | None]] = [
            (
                self.dice.uniform(0, 0.4),
                self.dice.uniform(0, 1.2),
                self.dice.choice(SIGNALS) if self.dice.random() < 0.7 else None,
            )
            for _ in range(2 if self.dice.random() < 0.3 else 1)
        ]
        with ThreadPoolExecutor(len(plans)) as pool:
            results = list(pool.map(lambda plan: self.one_run(env, *plan), plans))
        return any(result.code < 0 or result.code > 128 for result in results)

    def one_run(
        self, env: dict[str, str], late: float = 0, after: float = 0, number: signal.Signals | None = None
    ) -> Result:
        """Run the command, `late` seconds from now; `after` seconds from when it is up it gets the signal."""
        time.sleep(late)
        args = ("--prompts-file", str(self.folder / "prompts.txt"), "--output-dir", str(self.pictures))
        with Running("generate_and_wait.py", *args, *SCHEDULE, *AGAIN, env=env, whole=True) as running:
            if number:
                while not is_up(running.process):
                    time.sleep(0.01)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(after)
                    number = None  # it was quicker
            if number:
                running.process.send_signal(number)
                self.figures[number.name] += 1
            self.figures["runs"] += 1
            killed = f"{number.name} after {after:.2f} s" if number else "not killed"
            self.story.append(f"run {self.figures['runs']}, {late:.2f} s late: {killed}")
            result = running.end(timeout=60)
        self.story.append(f"exit {result.code}\n{result.stdout}{result.stderr}")
        self.judge(result, number)
        return result

    def judge(self, result: Result, number: signal.Signals | None) -> None:
        """Hold a run's lines and its exit code to the table; Running has held it to the rest."""
        indices = sorted(body["index"] for body in result.objects if "index" in body)
        hold(len(indices) == len(set(indices)), f"exit {result.code}: a prompt is told of twice")
        if number and result.code in {-signal.SIGKILL, 128 + number}:
            return
        hold(indices == list(range(len(self.prompts))), f"exit {result.code}: not one line for each prompt")
        errors = [body for body in sorted(result.objects, key=lambda body: body["index"]) if "error" in body]
        due = code_of(errors[0]) if errors else 0
        hold(result.code == due, f"exit {result.code}: it should be {due}")

    def compare(self, sandbox: Sandbox, calm: Result) -> None:
        """Compare what was paid for with what is on disk and with what the calm run printed."""
        hold(calm.code in {0, 5, 7}, f"the calm run: exit {calm.code}")
        records = {path.parent.name for path in self.pictures.glob("*/job.json")}
        traces = Counter(
            json.loads(path.read_bytes())["prompt"] for path in self.pictures.glob("submit-*.json")
        )
        for prompt, wanted in Counter(self.prompts).items():
            paid = {job.job_id for job in sandbox.jobs.values() if job.prompt == prompt}
            lines = [body for body in calm.objects if body["prompt"] == prompt]
            told = {body["job_id"] for body in lines if "job_id" in body}
            lost, unknown = paid - records, sum("job_id" not in body for body in lines)
            books = f"{prompt!r} x {wanted}, paid {paid}, {traces[prompt]} traces"
            hold(len(paid) <= wanted, f"paid twice: {books}")
            hold(told == paid - lost and len(told) + unknown == wanted, f"a job is not told of: {books}")
            hold(len(lost) <= unknown <= traces[prompt], f"a job without record or trace: {books}")
            self.figures.update(jobs=len(paid), lost=len(lost))
        for path in filter(Path.is_file, self.pictures.rglob("*")):
            hold(path.suffix != ".part", f"left behind: {path}")
            hold(sandbox.key.encode() not in path.read_bytes(), f"the key is in {path}")
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    picture.load()
        for body in calm.objects:
            if body.get("status") == "completed":
                there = {path.name for path in (self.pictures / body["job_id"]).iterdir()}
                hold(there >= PICTURES, f"{PICTURES - there} missing: {body}")


def code_of(body: dict[str, Any]) -> int:
    """Return the exit code that a line with an error calls for; KeyError where it has no place here."""
    type_ = body["error"]["type"]
    return 5 if type_ == "job_failed" else 6 if "job_id" in body else CODES[type_]


def main(argv: Sequence[str]) -> int:
    """Run campaigns until time is up; return 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=2, help="how long to go on (default 2)")
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="the first campaign's")
    options = parser.parse_args(argv)
    deadline = time.monotonic() + (options.minutes * 60 if options.seconds is None else options.seconds)
    figures, seeds, lock = Counter[str](violations=0), itertools.count(options.seed), threading.Lock()

    def work(_: int) -> None:
        while time.monotonic() < deadline:
            campaign = Campaign(next(seeds), deadline)
            try:
                campaign.run()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not what was promised
                campaign.figures["violations"] += 1
                campaign.story.append(f"{type(error).__name__}: {error}")
                print(
                    f"\n--seed {campaign.seed}, {campaign.folder}", *campaign.story, sep="\n", file=sys.stderr
                )
            with lock:
                figures.update(campaign.figures)
                if figures["campaigns"] % 10 == 0:
                    print(json.dumps(figures), file=sys.stderr, flush=True)

    small = mock.patch.object(sandbox_module, "picture", lambda _prompt, _seed, number: padded(SMALL, number))
    with small, ThreadPoolExecutor(CAMPAIGNS_AT_ONCE) as pool:
        list(pool.map(work, range(CAMPAIGNS_AT_ONCE)))
    print(json.dumps({"seed": options.seed, **figures}))
    return min(1, figures["violations"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
