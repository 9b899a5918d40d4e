"""Before anything is bought: prompts checked, matched with records, priced, within every limit."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legnext import budget, prompt
from legnext.api import SUBMIT_PATH
from legnext.budget import Block
from legnext.errors import Failure
from legnext.job import age_seconds, recorded_job
from legnext.options import Options
from legnext.parameters import PICTURE_SUFFIXES
from legnext.records import load_record
from legnext.report import Reporter
from legnext.settings import LOCAL, base_url, daily_limit
from legnext.store import Store
from legnext.task import Task

MAX_CHARACTERS = 8192
EXPIRY_SECONDS = 7 * 86_400.0  # URLs of pictures are kept 7 to 30 days
Prompts = Sequence[tuple[str, str]]  # and the names of their folders, "" for none
SUBMIT, PICK_UP, REPORT_FAILED, ASK = WOULD = ("submit", "pick_up", "report_failed", "ask")


@dataclass(frozen=True)
class Plan:
    """What a command would do."""

    tasks: list[Task]
    refusals: dict[Task, Failure]  # prompts that must be changed
    would: dict[Task, str]  # one of WOULD for each of the others
    block: Block | None = None  # why nothing may be bought

    @property
    def wanted(self) -> list[Task]:
        """The tasks to buy."""
        return [task for task in self.tasks if self.would.get(task) == SUBMIT]

    def approve(self) -> None:
        """Let the wanted tasks be bought: they are checked, priced and within every limit."""
        for task in self.wanted:
            task.approved = True


def make_plan(options: Options, prompts: Prompts, store: Store) -> Plan:
    """Read the records and plan the tasks. Raises Failure `usage`, `file_error`."""
    tasks = [Task(name=name) for _, name in prompts]
    refusals = {}
    for index, (task, (text, _)) in enumerate(zip(tasks, prompts, strict=True)):
        task.index = index if options.is_batch else None
        if why := read_prompt(task, text, store.host):
            refusals[task] = Failure("invalid_prompt", why)
    store.read()
    readable = [task for task in tasks if task not in refusals]
    for same_name in (True, False) if not options.again else ():
        for task in readable:
            if task.job is None and (record := store.claim(task, same_name=same_name)):
                task.adopt(record)
    for task in readable:
        if may_buy(task, options) and (
            why := check(task, store.host, has_check=not options.no_check)
        ):
            refusals[task] = Failure("invalid_prompt", why)
    would = {task: decide(task, options, store) for task in readable if task not in refusals}
    plan = Plan(tasks, refusals, would)
    return Plan(tasks, refusals, would, why_blocked(options, plan.wanted, store))


def may_buy(task: Task, options: Options) -> bool:
    """Say whether no job on record answers the task."""
    return task.job is None or (options.retry_failed and task.job.has_failed)


def decide(task: Task, options: Options, store: Store) -> str:
    """Return what is to be done for a task, one of WOULD."""
    if task.job and not may_buy(task, options):
        return REPORT_FAILED if task.job.has_failed else PICK_UP
    if task.job:
        return SUBMIT
    return ASK if store.claim_unknown(task) else SUBMIT


# --- One prompt


def read_prompt(task: Task, text: str, host: str) -> str:
    """Clean the prompt and resolve its references; return why it cannot be a prompt, or ""."""
    cleaned, task.warnings = prompt.clean(text)
    why = prompt.why_impossible(cleaned, MAX_CHARACTERS)
    if why:
        task.prompt = cleaned[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
        return why
    task.prompt = cleaned
    resolve_references(task, host)
    return ""


def check(task: Task, host: str, *, has_check: bool) -> str:
    """Price a prompt and find its faults; return the errors, a line for each, or ""."""
    points = prompt.price(task.prompt)
    task.price_usd = None if points is None else points / 1000
    findings = prompt.check(task.prompt, local_api=host == LOCAL) if has_check else []
    lines = {
        level: [f"{f.words}: {f.advice}" for f in findings if f.level == level]
        for level in ("error", "warning")
    }
    task.warnings += lines["warning"]
    return "\n".join(lines["error"])


def resolve_references(task: Task, host: str) -> None:
    """Replace references to pictures that these scripts downloaded by their URLs.

    `typed` keeps the absolute path, by which the same command finds the record later, even if the
    picture is gone.
    """
    typed = task.prompt
    for word in prompt.references(task.prompt):
        if "://" in word or Path(word).suffix[1:].lower() not in PICTURE_SUFFIXES:
            continue
        path = os.path.abspath(os.path.expanduser(word))
        typed = replace_word(typed, word, path)
        url, age = find_url(Path(path), host)
        if url:
            task.prompt = replace_word(task.prompt, word, url)
            task.warnings.append(f"{word} is sent as its URL, {url}")
            if age is None or age > EXPIRY_SECONDS:
                task.warnings.append(f"{url} may have expired: it is more than 7 days old")
    task.typed = typed if typed != task.prompt else ""


def replace_word(text: str, word: str, new: str) -> str:
    return new.join(re.split(rf"(?<!\S){re.escape(word)}(?!\S)", text))


def find_url(path: Path, host: str) -> tuple[str, float | None]:
    """Return the URL of a downloaded picture, "" if it is not ours, and its age in seconds."""
    try:
        record = load_record(path.parent) if path.is_file() else None
    except (OSError, ValueError, Failure):
        record = None
    if record is None or record.get("host", host) != host:
        return "", None
    return recorded_job(record).urls.get(path.stem, ""), age_seconds(record.get("submitted_at"))


# --- All of them


def why_blocked(options: Options, wanted: list[Task], store: Store) -> Block | None:
    """Return why nothing may be bought: the records, --budget, LEGNEXT_MAX_USD; or None."""
    if not wanted:
        return None
    prices, daily = [task.price_usd for task in wanted], daily_limit()
    if store.damaged:
        return Block(store.damaged, {"price_usd": budget.total(prices)})
    if options.budget is not None:
        block = budget.over_limit(prices, options.budget, "--budget")
        if block:
            return block
    if daily is None:
        return None
    submits = [intent.record for intent in store.unknown]
    spent = budget.spent_today(store.records.values(), submits)
    return budget.over_limit(prices, daily, "LEGNEXT_MAX_USD", spent)


def show_plan(plan: Plan, reporter: Reporter) -> None:
    """Print what a run would do (--dry-run); of many prompts the total first, then short lines."""
    is_batch = reporter.options.is_batch
    if is_batch:
        plans = list(plan.would.values())
        total: dict[str, Any] = {"prompts": len(plan.tasks)}
        total |= {name: plans.count(name) for name in WOULD}
        total["refused"] = len(plan.refusals)
        total["price_usd"] = budget.total([task.price_usd for task in plan.wanted])
        show_or_fail(reporter, {"dry_run": True, "total": total}, plan.block)
    for task in plan.tasks:
        index = {"index": task.index} if is_batch else {"dry_run": True}
        if task in plan.refusals:
            reporter.fail(plan.refusals[task], {**index, "prompt": task.prompt})
            continue
        would, shown = plan.would[task], task.record.get("prompt") or task.prompt
        body = {**index, "prompt": shown, "would": would}
        if task.job:
            body |= {"job_id": task.job_id, "status": task.job.status}
        elif not is_batch:
            sent = {"url": base_url() + SUBMIT_PATH, "json": {"text": task.prompt}}
            body["request"] = {"method": "POST", **sent}
        body |= {"price_usd": task.price_usd} if would == SUBMIT else {}
        body |= {"warnings": task.warnings} if task.warnings else {}
        show_or_fail(reporter, body, None if is_batch else plan.block)


def show_or_fail(reporter: Reporter, body: dict[str, Any], block: Block | None) -> None:
    """Print an object, with the error if nothing may be bought."""
    if block:
        reporter.fail(block.failure, {**body, **block.facts})
    else:
        reporter.show(body)
