"""Every way to fail, with its exit code and hint.

Once a job id is known, every failure is exit 6 (to submit again costs money), unless the job
itself failed (5) or a signal came.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple


class Exit(IntEnum):
    """What the caller does next."""

    DONE = 0
    RETRY = 1
    FIX = 2
    KEY = 3
    MONEY = 4
    REFUSED = 5
    RESUME = 6
    UNKNOWN = 7


EXIT_CODES = {  # what --help prints
    0: "done",
    1: "no job was created: run it again later",
    2: "the command, its input or this machine's setup is wrong: fix it",
    3: "no usable key: fix LEGNEXT_API_KEY",
    4: "the balance is too low, or a limit is exceeded: ask the user",
    5: "refused or failed: change the prompt",
    6: "the job exists: `resume`, or the same command without --again, buys nothing",
    7: "unknown whether a job was created: show the user both balances, and ask",
    129: "stopped by SIGHUP; with a job_id as 6; if a submit got no answer, as 7",
    130: "stopped by SIGINT, likewise",
    143: "stopped by SIGTERM, likewise",
}


class Kind(NamedTuple):
    """One row of KINDS."""

    exit: Exit  # if no job is known
    hint: str = ""
    hint_with_job: str = ""  # what to do before `resume`


FREE = "Nothing was charged."
SAME = "the same command again"  # see `Options.repetition`
REPEAT = f"{FREE} Run {SAME}"
LATER = f"{REPEAT} later."
INSTALL = "Start the script with `uv run`, or run `python3 -m pip install requests`."
SET_KEY = """Set LEGNEXT_API_KEY in the environment, to a key from https://legnext.ai/app/api-keys \
(never in a command or a chat). A key set in one shell command is gone in the next, and a variable \
that is set, even wrongly, wins over `uv run --env-file`."""
BAD_KEY = f"The key is refused. {SET_KEY}"
SETUP = f"""{FREE} Repeating does not help: fix this machine's setup (LEGNEXT_BASE_URL, \
HTTPS_PROXY, REQUESTS_CA_BUNDLE, a sandbox without network)."""
BALANCE = f"""{FREE} Tell the user the price and the balance: they can top up at \
https://legnext.ai."""
FORGOTTEN = """Jobs are kept about 3 days. If it stays unknown, its pictures are lost: if the user \
agrees, delete its folder, and the same command buys it again."""
FAILED_JOB = """If moderation refused it, change the prompt; otherwise generate_and_wait.py with \
--retry-failed buys it again: ask the user first."""
FORBIDDEN = f"{FREE} This account may not do that: leave it out, or ask support@legnext.ai."
NO_IMAGES = """Pictures can come late. If none come within minutes, moderation probably held \
them back: change the prompt."""
MAYBE = """Do not submit again unless the user agrees: a job may exist and be paid for. Show them \
submitted_at, price_usd and both balances."""

# fmt: off
KINDS = {
    **dict.fromkeys(("server_error", "rate_limited", "api_error"), Kind(Exit.RETRY, LATER)),
    "network_error": Kind(Exit.RETRY, f"{LATER} Is LEGNEXT_BASE_URL right, is there a network?"),
    "bad_response": Kind(Exit.RETRY, f"{LATER} A gateway may have answered."),
    "timeout": Kind(Exit.RETRY, LATER, "The job needs more time."),
    **dict.fromkeys(("not_submitted", "interrupted"), Kind(Exit.RETRY, f"{REPEAT}.")),
    "usage": Kind(Exit.FIX, "Nothing was sent. --help shows flags and examples."),
    "invalid_prompt": Kind(Exit.FIX, "Nothing was sent. Rewrite the prompt as the message says."),
    "invalid_request": Kind(Exit.FIX, f"{FREE} Change what the message names."),
    "not_found": Kind(Exit.FIX, "Check the id and LEGNEXT_BASE_URL; it may be too old.", FORGOTTEN),
    "file_error": Kind(Exit.FIX, "Nothing was sent. Make it readable and writable, or use another.",
                       "Free some space or make the folder writable first."),
    "missing_dependency": Kind(Exit.FIX, INSTALL, INSTALL),
    "setup_error": Kind(Exit.FIX, SETUP, "Fix this machine's network setup first."),
    "missing_api_key": Kind(Exit.KEY, SET_KEY, SET_KEY),
    "invalid_api_key": Kind(Exit.KEY, BAD_KEY, BAD_KEY),
    "insufficient_balance": Kind(Exit.MONEY, BALANCE),
    "over_budget": Kind(Exit.MONEY, "Nothing was sent. Ask the user: raise it, or fewer jobs?"),
    "job_failed": Kind(Exit.REFUSED, FAILED_JOB),
    "content_rejected": Kind(Exit.REFUSED, f"{FREE} Moderation: ask the user to reword it."),
    "forbidden": Kind(Exit.REFUSED, FORBIDDEN, "Check which account the key belongs to."),
    "download_failed": Kind(Exit.RESUME, "", "The pictures named in `files` can be used."),
    "no_images": Kind(Exit.RESUME, "", NO_IMAGES),
    "submission_unknown": Kind(Exit.UNKNOWN, MAYBE),
}
# fmt: on


class Failure(Exception):  # noqa: N818 - it becomes the error object
    """Something went wrong."""

    retry_after: float | None = None  # seconds, if the server sent it

    def __init__(
        self,
        type_: str,
        message: str,
        *,
        code: int | None = None,
        hint: str = "",
        transient: bool = False,
    ) -> None:
        self.type = type_  # a row of KINDS
        self.message = message
        self.code = code  # HTTP status, or the job's own
        self.hint = hint  # before the table's
        self.transient = transient  # it may pass

    def as_json(self, *hints: str) -> dict[str, Any]:
        """Return the error object. `hints` replace the table's."""
        error: dict[str, Any] = {"type": self.type, "code": self.code, "message": self.message}
        error["hint"] = " ".join(filter(None, [self.hint, *(hints or [KINDS[self.type].hint])]))
        return error if self.retry_after is None else {**error, "retry_after": self.retry_after}


def exit_code(type_: str, *, job_exists: bool = False, id_given: bool = False) -> int:
    """Return the exit code of a failure. `id_given`: the caller named the job, so it may exist.

    What says that the id is wrong, or will not pass, keeps its own code.
    """
    code = KINDS[type_].exit
    if job_exists:
        return Exit.REFUSED if type_ == "job_failed" else Exit.RESUME
    return Exit.RESUME if id_given and code in (Exit.RETRY, Exit.MONEY) else code


def run_exit_code(codes: list[int]) -> int:
    """Return the exit code of several results, in input order."""
    worst = [code for code in (Exit.UNKNOWN, Exit.RESUME) if code in codes]
    return next(filter(None, [*worst, *codes]), Exit.DONE)


def as_failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    words = f"{type(error).__name__}: {error}"
    return Failure("file_error" if isinstance(error, OSError) else "api_error", words)


def attempt(step: Callable[..., object], *args: object) -> Failure | None:
    try:
        step(*args)
    except Exception as error:  # noqa: BLE001 - a bug of ours must not hide a job
        return as_failure(error)
    return None
