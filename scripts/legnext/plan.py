"""Before anything is bought: prompts read, checked, matched with records, priced, approved."""

import codecs
import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from legnext import budget, prompt
from legnext.api import SUBMIT_PATH
from legnext.errors import Failure
from legnext.job import age_seconds, recorded_job, without_empty
from legnext.options import Options
from legnext.parameters import PICTURE_SUFFIXES
from legnext.records import load_record
from legnext.report import Reporter
from legnext.settings import LOCAL, base_url, daily_limit
from legnext.store import Store
from legnext.task import Task

MAX_CHARACTERS = 8192
EXPIRY_SECONDS = 7 * 86_400.0  # URLs of pictures are kept 7 to 30 days
PICTURE_FILE = re.compile(rf"(?i)\.({'|'.join(PICTURE_SUFFIXES)})\b")
Prompts = list[tuple[str, str]]  # and the names of their folders, "" for none
OTHER_KINDS = {  # lines of a file that is no list of prompts
    r"\{\\rtf": "RTF",
    r"(?i)<(!doctype|html|\?xml)": "HTML",
    r"---\s*$|```|~~~": "Markdown",
    r"\[\s*([\"\[{]|$)": "one JSON document",
}
SUBMIT, PICK_UP, REPORT_FAILED, ASK = WOULD = ("submit", "pick_up", "report_failed", "ask")


class Plan(NamedTuple):
    """What a command would do."""

    tasks: list[Task]
    refusals: dict[Task, Failure]  # prompts that must be changed
    would: dict[Task, str]  # one of WOULD for each of the others
    wanted: list[Task]  # those to buy
    block: budget.Block | None  # why nothing may be bought


def read_prompts(options: Options) -> Prompts:
    """Return the prompts of the command: its argument, stdin or a file. Raises Failure."""
    prompt, path = options.prompt, options.prompts_file
    if path is not None and prompt is None:
        return parse_prompts(read_text(path))
    if path is not None or prompt is None:
        raise Failure("usage", "give one PROMPT, in quotes, or --prompts-file FILE")
    if prompt != "-" and os.path.isfile(prompt):
        hint = "Run generate_and_wait.py --prompts-file FILE."
        raise Failure("usage", f"{prompt!r} is a file, no prompt", hint=hint)
    return [(read_text("-") if prompt == "-" else prompt, "")]


def parse_prompts(text: str) -> Prompts:
    """Return a prompt for each line of a prompts file. Raises Failure."""
    lines = [line.strip(" \t\ufeff") for line in re.split("\r\n|\r|\n", text)]
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line and not line.startswith("#")]
    for n, line in numbered:
        if why := prompt.why_impossible(line, len(line)):  # a control character
            raise not_a_list(n, why)
        for pattern, kind in OTHER_KINDS.items():
            if re.match(pattern, line):
                raise not_a_list(n, f"this looks like {kind}")
    if not numbered:
        raise Failure("usage", "the prompts file has no prompt")
    if numbered[0][1].startswith("{"):
        return [parse_json_line(n, line) for n, line in numbered]
    return [(line, "") for _, line in numbered]


def parse_json_line(n: int, line: str) -> tuple[str, str]:
    with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError):
        body = json.loads(line)
        prompt, name = body["prompt"], body.get("name", "")
        if isinstance(prompt, str) and isinstance(name, str):
            return prompt, name
    raise not_a_list(n, 'not {"prompt": "…", "name": "…"} as the first line says')


def not_a_list(n: int, why: str) -> Failure:
    hint = "Write one prompt per line, as plain text in UTF-8."
    return Failure("invalid_prompt", f"line {n} of the input: {why}", hint=hint)


def read_text(path: str) -> str:
    """Return a file, or stdin (-): UTF-8, or UTF-16 with a byte order mark. Raises Failure."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: sys.stdin is None
        raise Failure("file_error", f"the input cannot be read: {error}") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8")
    except UnicodeDecodeError as error:
        raise not_a_list(content.count(b"\n", 0, error.start) + 1, "not UTF-8") from None


def make_plan(options: Options, prompts: Prompts, store: Store) -> Plan:
    """Read the records and plan the tasks. Raises Failure `usage`, `file_error`."""
    tasks, refusals, would = [], {}, {}
    for index, (text, name) in enumerate(prompts):
        task = Task(index if options.is_batch else None, name=name)
        tasks.append(task)
        if why := read_prompt(task, text, store.host):
            refusals[task] = Failure("invalid_prompt", why)
    store.refresh()
    readable = [task for task in tasks if task not in refusals]
    for same_name in (True, False) if not options.again else ():
        for task in readable:
            if task.job is None and (record := store.claim(task, same_name=same_name)):
                task.adopt(record)
    for task in readable:
        if task.job and not (options.retry_failed and task.job.has_failed):
            would[task] = REPORT_FAILED if task.job.has_failed else PICK_UP
        elif why := check(task, store.host, has_check=not options.no_check):
            refusals[task] = Failure("invalid_prompt", why)
        else:  # it may be out at this moment: only `submit` can say that it is unknown
            would[task] = ASK if store.claim_unknown(task) else SUBMIT
    wanted = [task for task in would if would[task] == SUBMIT]
    block = None if refusals else why_blocked(options, wanted, store)
    return Plan(tasks, refusals, would, wanted, block)


def read_prompt(task: Task, text: str, host: str) -> str:
    """Clean the prompt, resolve its references; return why it cannot be one, or ""."""
    cleaned, task.warnings = prompt.clean(text)
    task.prompt = cleaned[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
    if why := prompt.why_impossible(cleaned, MAX_CHARACTERS):
        return why
    resolve_references(task, host)  # a URL is longer than a path
    return prompt.why_impossible(task.prompt, MAX_CHARACTERS)


def check(task: Task, host: str, *, has_check: bool) -> str:
    """Price and check a prompt; return the errors, a line for each, or ""."""
    points = prompt.price_points(task.prompt)
    task.price_usd = None if points is None else points / 1000
    findings = prompt.check(task.prompt, local_api=host == LOCAL) if has_check else []
    errors: list[str] = []
    for level, words, advice in findings:
        (errors if level == "error" else task.warnings).append(f"{words}: {advice}")
    return "\n".join(errors)


def resolve_references(task: Task, host: str) -> None:
    """Replace references to pictures that these scripts downloaded by their URLs.

    By `typed`, with the absolute path, the same command finds the record if the picture is gone.
    """
    typed = task.prompt
    if not PICTURE_FILE.search(typed):
        return  # the quick way for most
    for word in prompt.references(task.prompt):
        if "://" in word or not PICTURE_FILE.search(word):
            continue
        name = re.sub(r"::[\d.]+$", "", word.strip(prompt.QUOTES))
        path = os.path.abspath(os.path.expanduser(name))
        typed = replace_word(typed, word, word.replace(name, path))
        url, age = find_url(Path(path), host)
        resolved = replace_word(task.prompt, word, word.replace(name, url))
        if url and resolved != task.prompt:
            task.prompt = resolved
            task.warnings.append(f"{name} is sent as its URL, {url}")
            if age is None or age > EXPIRY_SECONDS:
                task.warnings.append(f"{url} may have expired: it is more than 7 days old")
    task.typed = typed if typed != task.prompt else ""


def replace_word(text: str, word: str, new: str) -> str:
    return new.join(re.split(rf"(?<!\S){re.escape(word)}(?!\S)", text))


def find_url(path: Path, host: str) -> tuple[str, float | None]:
    """Return a downloaded picture's URL, "" if it is not ours, and its age in seconds."""
    with contextlib.suppress(OSError, ValueError, Failure):
        record = load_record(path.parent) if path.is_file() else None
        if record and record.get("host", host) == host:
            url = recorded_job(record).urls.get(path.stem, "")
            return url, age_seconds(record.get("submitted_at"))
    return "", None


def why_blocked(options: Options, wanted: list[Task], store: Store) -> budget.Block | None:
    """Return why nothing may be bought (records, --budget, LEGNEXT_MAX_USD), or None."""
    if not wanted:
        return None
    prices, block = [task.price_usd for task in wanted], None
    if store.damaged:
        return budget.Block(store.damaged, {"price_usd": budget.total(prices)})
    if options.budget is not None:
        block = budget.over_limit(prices, options.budget, "--budget")
    return block or budget.over_daily_limit(prices, daily_limit(), *store.submits())


def show_plan(plan: Plan, reporter: Reporter) -> None:
    """Print what a run would do; of many prompts the total first, then short lines."""
    is_batch, block = reporter.options.is_batch, plan.block
    facts, failure = (block.facts, block.failure) if block else ({}, None)
    if is_batch:
        plans = list(plan.would.values())
        total: dict[str, Any] = {"prompts": len(plan.tasks)}
        total |= {name: plans.count(name) for name in WOULD}
        total["refused"] = len(plan.refusals)
        total["price_usd"] = budget.total([task.price_usd for task in plan.wanted])
        reporter.print_json({"dry_run": True, "total": total, **facts}, failure)
        facts, failure = {}, None
    for task in plan.tasks:
        index = {"index": task.index} if is_batch else {"dry_run": True}
        if task in plan.refusals:
            body = without_empty({**index, "prompt": task.prompt, "warnings": task.warnings})
            reporter.print_json(body, plan.refusals[task])
            continue
        would, shown = plan.would[task], task.record.get("prompt") or task.prompt
        body = {**index, "prompt": shown, "would": would}
        if task.job:
            body |= {"job_id": task.job_id, "status": task.job.status}
        elif would == SUBMIT and not is_batch:
            sent = {"url": base_url() + SUBMIT_PATH, "json": {"text": task.prompt}}
            body["request"] = {"method": "POST", **sent}
        body |= {"price_usd": task.price_usd} if would == SUBMIT else {}
        body |= {"warnings": task.warnings} if task.warnings else {}
        reporter.print_json({**body, **facts}, failure)
