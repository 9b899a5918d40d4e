"""Every way to fail: one table with the exit code and the next step, and one rule.

The rule: once a job id is known, every failure is exit 6, because to submit again would cost money.
Only a job that failed itself (5) and a signal are different.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Exit(IntEnum):
    """What the caller does next. A signal has the shell's own codes: 129, 130, 143."""

    DONE = 0
    RETRY = 1
    FIX = 2
    KEY = 3
    MONEY = 4
    PROMPT = 5
    RESUME = 6
    UNKNOWN = 7


EXIT_CODES = {  # what --help prints
    0: "done",
    1: "no job was created, nothing was charged: run it again later",
    2: "the command, its input or this machine's setup is wrong: fix it",
    3: "no usable key: fix LEGNEXT_API_KEY",
    4: "the balance is too low, or a limit would be exceeded: ask the user",
    5: "refused or failed: change the prompt",
    6: "the job exists, but is not finished: the same command again, or `resume`; buys nothing",
    7: "unknown whether a job was created: show the user both balances, ask before buying again",
    129: "stopped by SIGHUP; with a job_id as 6; if a submit got no answer, as 7",
    130: "stopped by SIGINT, likewise",
    143: "stopped by SIGTERM, likewise",
}


class Kind(NamedTuple):
    """One row of KINDS: the exit code if no job is known, and what to do next."""

    exit: Exit
    hint: str = ""
    hint_with_job: str = ""  # what to do before `resume`


FREE = "Nothing was charged."
LATER = f"{FREE} Run the same command again later."
INSTALL = "Start the script with `uv run`, or run `python3 -m pip install requests`."
SET_KEY = """Set LEGNEXT_API_KEY in the environment, to a key from https://legnext.ai/app/api-keys \
(never paste it into a command or a chat). A key set in one shell command is gone in the next, and \
a variable that is set, even to a wrong value, wins over `uv run --env-file`."""
SETUP = f"""{FREE} Repeating it does not help: fix the setup of this machine (LEGNEXT_BASE_URL, \
HTTPS_PROXY, REQUESTS_CA_BUNDLE, a sandbox without network)."""
BALANCE = f"""{FREE} Tell the user the price and the balance: they can top up at \
https://legnext.ai, or have fewer or cheaper pictures made."""
FORGOTTEN = """Legnext keeps jobs for about 3 days. If it still does not know this one, its \
pictures are lost; --again buys a new job, if the user agrees."""
FAILED = """If moderation refused it, change the prompt; otherwise generate_and_wait.py with \
--retry-failed buys it again. A new job costs again: ask the user first."""
NO_IMAGES = """Pictures can come late. If there are none after some minutes, moderation has \
probably held them back: then change the prompt."""
MAYBE = """Do not submit again unless the user agrees: a job may exist and be paid for. Show them \
submitted_at, price_usd and both balances (later ones: verify_api_key.py)."""

# fmt: off
KINDS = {
    "network_error": Kind(Exit.RETRY, f"{LATER} If it persists, this shell may have no network."),
    "server_error": Kind(Exit.RETRY, LATER),
    "rate_limited": Kind(Exit.RETRY, LATER),
    "bad_response": Kind(Exit.RETRY, f"{LATER} A gateway seems to answer in place of the API."),
    "api_error": Kind(Exit.RETRY, LATER),
    "timeout": Kind(Exit.RETRY, LATER, "The job needs more time."),
    "not_submitted": Kind(Exit.RETRY, f"{FREE} The same command again submits it."),
    "interrupted": Kind(Exit.RETRY, f"{FREE} Run the same command again."),
    "usage": Kind(Exit.FIX, "Nothing was sent. --help shows each flag, and examples."),
    "invalid_prompt": Kind(Exit.FIX, "Nothing was sent. Rewrite the prompt as the message says "
                                     "and run the same command again."),
    "invalid_request": Kind(Exit.FIX, f"{FREE} Change what the message names."),
    "not_found": Kind(Exit.FIX, "Check the job id and LEGNEXT_BASE_URL. Jobs can be looked up for "
                                "about 3 days.", FORGOTTEN),
    "file_error": Kind(Exit.FIX, "Nothing was sent. Make the file or folder readable and writable, "
                                 "or name another one.",
                       "Free some space or make the folder writable first."),
    "missing_dependency": Kind(Exit.FIX, INSTALL, INSTALL),
    "setup_error": Kind(Exit.FIX, SETUP, "Fix the network setup of this machine first."),
    "missing_api_key": Kind(Exit.KEY, SET_KEY, SET_KEY),
    "invalid_api_key": Kind(Exit.KEY, SET_KEY, SET_KEY),
    "insufficient_balance": Kind(Exit.MONEY, BALANCE),
    "over_budget": Kind(Exit.MONEY, "Nothing was sent. Ask the user for more, or buy fewer or "
                                    "cheaper pictures."),
    "job_failed": Kind(Exit.PROMPT, FAILED),
    "content_rejected": Kind(Exit.PROMPT, f"{FREE} Moderation refused it: ask the user, and reword "
                                          "the prompt."),
    "forbidden": Kind(Exit.PROMPT, f"{FREE} This account may not do that: leave it out, or ask "
                                   "support@legnext.ai.",
                      "This account may not see the job: check which account the key belongs to."),
    "download_failed": Kind(Exit.RESUME, "", "The pictures named in `files` can be used."),
    "no_images": Kind(Exit.RESUME, "", NO_IMAGES),
    "submission_unknown": Kind(Exit.UNKNOWN, MAYBE),
}
# fmt: on


class Failure(Exception):  # noqa: N818 - it becomes the error object
    """Something went wrong; `type` is a row of KINDS."""

    def __init__(
        self,
        type_: str,
        message: str,
        *,
        code: int | None = None,
        hint: str = "",
        retry_after: float | None = None,
        transient: bool = False,
    ) -> None:
        """`code`: HTTP status or the job's own error code. `hint` goes before the table's.

        `retry_after`: seconds, if the server sent it. `transient`: the same request may succeed a
        moment later.
        """
        super().__init__(message)
        self.type, self.message, self.code, self.hint = type_, message, code, hint
        self.retry_after, self.transient = retry_after, transient

    def as_json(self, *hints: str) -> dict[str, object]:
        """Return the error object. `hints`: what to do, in place of the table's words."""
        words = " ".join(filter(None, [self.hint, *(hints or [KINDS[self.type].hint])]))
        error: dict[str, object] = {"type": self.type, "code": self.code}
        error |= {"message": self.message, "hint": words}
        return error if self.retry_after is None else {**error, "retry_after": self.retry_after}


def exit_code(type_: str, *, job_exists: bool = False, id_given: bool = False) -> int:
    """Return the exit code of a failure.

    `id_given`: the caller named the job, so it probably exists. But the id may be wrong: what says
    so (400, 401, 403, 404), and what cannot be repeated away, keeps its own code.
    """
    code = KINDS[type_].exit
    if job_exists:
        return Exit.PROMPT if type_ == "job_failed" else Exit.RESUME
    return Exit.RESUME if id_given and code in (Exit.RETRY, Exit.MONEY) else code


def run_exit_code(codes: list[int]) -> int:
    """Return the exit code of several results, which are in input order."""
    for worst in (Exit.UNKNOWN, Exit.RESUME):
        if worst in codes:
            return worst
    return next((code for code in codes if code), Exit.DONE)


def as_failure(error: Exception) -> Failure:
    """Return any exception as a Failure: the disk's, or a bug of this program."""
    if isinstance(error, Failure):
        return error
    words = f"{type(error).__name__}: {error}"
    return Failure("file_error" if isinstance(error, OSError) else "api_error", words)
