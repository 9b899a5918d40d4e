#!/usr/bin/env python3
"""Random campaigns against the promise "never lost, never paid twice".

    uv run tests/tools/chaos.py [--seconds 60] [--seed N]

A campaign is one output directory and four commands. They run at once and are killed, requests
on every route go wrong, a person renames, copies and deletes folders. Then all is well again: the
commands run until nothing changes, and jobs, records and output are reconciled. Prints violations
with their seed, then figures; exit code 1 on a violation. `--seconds 0 --seed N` repeats one.
"""

import argparse
import contextlib
import itertools
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sandbox as sandbox_module
from running import Result, Running, small_picture
from sandbox import Fault, Sandbox

POOL = ("a cat", "a dog on a hill", "an owl --ar 1:1", "submit a form", "a tree that fails-later")
POLLING = ("--interval", "0.1", "--max-wait", "10")
GENERATE = ("generate_and_wait.py", "--initial-wait", "0", *POLLING)
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, None, None)
ROUTES: Any = ("submit", "submit", "job", "image", "balance")
# What goes wrong. A 4xx says that no job exists, so it never comes after the effect.
BREAKS: Any = [{"action": a} for a in ("reset", "close", "truncate", "cut", "stall")]
BREAKS += [{"status": s, "body": b} for s in (200, 202, 500, 502, 503) for b in ("", "<html>")]
WRONG: Any = [{"status": s, "headers": {"Retry-After": "1"}} for s in (400, 401, 402, 403, 429)]
WRONG += [{**wrong, "after_effect": effect} for wrong in BREAKS for effect in (True, False)]
READ_INTENT = json.JSONDecoder().raw_decode  # behind the JSON there is room for the job's id


class Campaign:
    """One output directory, from the first run to the reconciliation."""

    def __init__(self, seed: int) -> None:
        """Choose the commands."""
        self.dice, self.figures, self.story = random.Random(seed), Counter(campaigns=1), list[str]()
        self.root = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        self.out, file = self.root / "pictures", self.root / "prompts.txt"
        prompts = self.dice.choices(POOL, k=self.dice.randint(2, 7))
        file.write_text("\n".join(prompts), "utf-8")
        slots, other = str(self.dice.randint(1, 6)), self.dice.choice(POOL)
        self.commands: dict[tuple[str, ...], list[str]] = {  # with the prompts that each asks for
            (*GENERATE, "--prompts-file", str(file), "--concurrency", slots): prompts,
            (*GENERATE, prompts[0]): prompts[:1],
            ("imagine.py", other): [other],
            ("get_task.py", "--wait", *POLLING): [],
        }
        # How often a prompt may be paid for: as often as the command that has it most often, and
        # once more for each --again, each --retry-failed and each deleted record or intent.
        self.allowed = Counter({p: max(n.count(p) for n in self.commands.values()) for p in POOL})
        self.dismissed = Counter[str]()  # intents that were deleted, by prompt
        self.announced, self.acts = set[str](), set[tuple[str, str]]()  # ids printed; (act, id)

    def run(self) -> None:
        """Run it all, and remove the folder. Raises AssertionError if a promise is not kept."""
        with Sandbox(credits=10**6, image_padding=20_000) as self.sandbox:
            self.sandbox.service_time = self.dice.uniform(0, 0.6)
            self.sandbox.shape = self.dice.choice(("live", "reference"))
            for _ in range(self.dice.randint(1, 3)):
                self.round()
            self.reconcile()
        shutil.rmtree(self.root)

    def round(self) -> None:
        """Run one to three commands at once while things go wrong; return when all have ended."""
        dice = self.dice
        faults = [Fault("submit", action="stall", after_effect=dice.random() < 0.5)]  # others wait
        for _ in range(dice.randint(0, 12)):
            skip, times, wrong = dice.randint(0, 2), dice.randint(1, 2), dice.choice(WRONG)
            faults.append(Fault(dice.choice(ROUTES), skip=skip, times=times, **wrong))
        self.story.append(f"round with {faults}")
        self.sandbox.released.clear()
        self.sandbox.faults[:] = faults
        own = [random.Random(dice.random()) for _ in range(dice.randint(2, 4))]
        with ThreadPoolExecutor(len(own)) as pool:
            person = pool.submit(self.tamper, own[0])
            results = list(pool.map(lambda d: self.start(d.choice([*self.commands]), d), own[1:]))
            person.result()
        self.figures["faults"] += len(faults) - len(self.sandbox.faults)
        printed = "".join(result.stdout for result in results)
        for name in sorted({*re.findall(r"submit-[0-9a-f]{16}\.json", printed)}):
            assert (self.out / name).exists(), f"{name} was called unknown, and it is gone"
            if dice.random() < 0.3:  # the user says: submit it again
                self.dismissed[READ_INTENT((self.out / name).read_text("utf-8"))[0]["prompt"]] += 1
                (self.out / name).unlink()

    def start(self, words: tuple[str, ...], dice: random.Random | None = None) -> Result:
        """Run a command and hold it to the contract; with dice it may be killed."""
        prompts, number = self.commands[words], dice and dice.choice(SIGNALS)
        if dice and words[0] == GENERATE[0] and dice.random() < 0.2:
            words += (dice.choice(("--again", "--retry-failed")),)
            self.allowed.update(p for p in prompts if words[-1] == "--again" or "fails" in p)
        args = (*words, "--output-dir", str(self.out))
        time.sleep(dice.uniform(0, 0.3) if dice else 0)
        with Running(*args, sandbox=self.sandbox, whole=True) as running:
            if dice and number:
                time.sleep(dice.uniform(0, 0.7))
                self.figures["kills"] += running.process.poll() is None
                running.process.send_signal(number)
            result = running.end()
        self.figures["runs"] += 1
        line = f"{' '.join(args)}: signal {number}, exit {result.code}"
        self.story.append(f"{line}\n{result.stdout}{result.stderr}")
        self.announced |= {i for i in self.sandbox.jobs if i in result.stdout + result.stderr}
        if "--prompts-file" in args and 0 <= result.code < 128:
            *lines, total = (body.get("total", body) for body in result.objects)
            indexes = [i for body in lines for i in body.get("indexes", [body.get("index")])]
            assert sorted(indexes) == [*range(len(prompts))], f"not each prompt once: {line}"
            due = 7 if total["unknown"] else 6 if total["unfinished"] else result.code
            assert result.code == due, f"the exit code should be {due}: {line}"
        return result

    def tamper(self, dice: random.Random) -> None:
        """Do to job folders what people do; at the end let stalled answers go."""
        for act in dice.choices(("rename", "copy", "delete"), k=dice.randint(1, 4)):
            time.sleep(dice.uniform(0, 0.4))
            place = (self.root if act == "delete" else self.out) / f"{act} {dice.randrange(10**9)}"
            with contextlib.suppress(OSError, shutil.Error, IndexError):  # a run works in it; none
                folder = dice.choice(sorted(self.out.glob("*/job.json"))).parent
                record = json.loads((folder / "job.json").read_bytes())
                self.story.append(f"{act} {folder.name}")
                self.acts.add((act, record["job_id"]))
                self.allowed[record["prompt"]] += act == "delete"
                _ = shutil.copytree(folder, place) if act == "copy" else folder.rename(place)
        self.sandbox.release()

    def reconcile(self) -> None:
        """Run each command until nothing changes; compare jobs, records and what was printed."""
        self.sandbox.faults.clear()
        for _ in range(2):
            posts = self.sandbox.posts
            with ThreadPoolExecutor(4) as pool:
                codes = [result.code for result in pool.map(self.start, self.commands)]
            assert set(codes) <= {0, 5, 7}, f"when nothing goes wrong: exits {codes}"
        assert self.sandbox.posts == posts, "the same command again bought something"
        records: dict[str, set[str]] = {}
        for path in self.out.glob("*/job.json"):
            whole = {p.name for p in path.parent.iterdir() if p.read_bytes()[-8:-4] == b"IEND"}
            records.setdefault(json.loads(path.read_bytes())["job_id"], set()).update(whole)
        lost = {i for i in self.sandbox.jobs if i not in records and ("delete", i) not in self.acts}
        assert not lost & self.announced, f"printed, not on record: {lost & self.announced}"
        intents = [path.read_text("utf-8") for path in self.out.glob("submit-*.json")]
        unknown = Counter(READ_INTENT(text)[0]["prompt"] for text in intents) + self.dismissed
        for prompt in POOL:
            paid = {i for i, job in self.sandbox.jobs.items() if job.prompt == prompt}
            most = self.allowed[prompt] + self.dismissed[prompt]
            assert len(paid) <= most, f"{prompt!r}: paid {len(paid)} times, asked {most}: {paid}"
            assert len(paid & lost) <= unknown[prompt], f"{prompt!r}: lost {paid & lost}"
        self.figures.update(jobs=len(self.sandbox.jobs), unknown=sum(unknown.values()))
        for job_id in records.keys() - {job_id for act, job_id in self.acts if act != "rename"}:
            whole, status = records[job_id], self.sandbox.status(job_id)
            assert len(whole) == 5 or status == "failed", f"job {job_id} has only {whole}"
        for path in filter(Path.is_file, self.out.rglob("*")):
            assert self.sandbox.key.encode() not in path.read_bytes(), f"the key is in {path}"


def main() -> int:
    """Run campaigns until time is up; return 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long (default %(default)g)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="the first one's")
    options = parser.parse_args()
    deadline, figures = time.monotonic() + options.seconds, Counter[str](violations=0)
    with mock.patch.object(sandbox_module, "picture", small_picture):
        for seed in itertools.count(options.seed):
            campaign = Campaign(seed)
            try:
                campaign.run()
            except Exception as error:  # noqa: BLE001 - whatever it is, it was not promised
                figures["violations"] += 1
                words = f"\n--seed {seed}, {campaign.root}: {type(error).__name__}: {error}"
                print(words, *campaign.story, words, sep="\n", file=sys.stderr, flush=True)
            figures.update(campaign.figures, requests=len(campaign.sandbox.requests))
            if time.monotonic() > deadline:
                break
    print(json.dumps({"seed": options.seed, **figures}))
    return min(1, figures["violations"])


if __name__ == "__main__":
    sys.exit(main())
