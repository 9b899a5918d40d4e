"""Every way to fail: its exit code, its cause and what to do next, in one table.

An agent acts on the exit code before it reads a word, so no code may invite what costs money: once a job is
known, no failure looks as if nothing had been created; a submit that nobody knows the outcome of has a code
of its own.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple


class Exit(IntEnum):
    """What the caller should do next; the process's exit code."""

    DONE = 0
    RUN_AGAIN = 1
    MEND_INPUT = 2
    MEND_KEY = 3
    ASK_FOR_MONEY = 4
    CHANGE_PROMPT = 5
    GO_ON = 6
    UNKNOWN = 7
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


_STOPPED = "with a job_id: as 6; if the submit had been sent: as 7"

MEANING: dict[Exit, tuple[str, str]] = {
    Exit.DONE: ("done", "use the result"),
    Exit.RUN_AGAIN: ("nothing was created or changed", "run it again later"),
    Exit.MEND_INPUT: ("the command, its input or this machine's set-up is wrong", "mend it"),
    Exit.MEND_KEY: ("no usable key", "mend LEGNEXT_API_KEY"),
    Exit.ASK_FOR_MONEY: ("not enough balance, or more than --budget", "ask the user"),
    Exit.CHANGE_PROMPT: ("refused or failed", "change the prompt"),
    Exit.GO_ON: (
        "the job exists, this run could not finish it",
        "run `resume`, or the same command (with --output-dir, without --again); nothing is bought",
    ),
    Exit.UNKNOWN: (
        "nobody knows whether a job was created",
        "tell the user both balances; submit again only with their yes",
    ),
    Exit.SIGHUP: ("stopped by SIGHUP", _STOPPED),
    Exit.SIGINT: ("stopped by SIGINT", _STOPPED),
    Exit.SIGTERM: ("stopped by SIGTERM", _STOPPED),
}
"""Exit code -> (meaning, next step), as `--help` prints it."""


class Phase(Enum):
    """How far a prompt or a job id has come in this run; what a failure then means follows from it."""

    NEW = "nothing has been sent"
    HELD_BACK = "nothing has been sent, and this run will not"
    SENT = "a submit is out, and whether it created a job is not known"
    KNOWN = "the job exists: this run or an earlier one submitted it"
    ASKED = "the user gave the job's id, for one look"
    FOLLOWED = "the user gave the job's id, to wait for"


class Kind(NamedTuple):
    """One row of KINDS. `exit` holds while no job is known; `exit_code` says what holds after."""

    exit: Exit
    cause: str
    hint: str
    before_going_on: str = ""  # what to do before `resume`, where going on at once would fail alike


_AGAIN = "Nothing was created or changed: run the same command again later."
_KEY = (
    "Set the environment variable LEGNEXT_API_KEY to a key from https://legnext.ai/app/api-keys "
    "(never paste it into a command or a chat), then run the same command again."
)

KINDS: dict[str, Kind] = {
    "network_error": Kind(
        Exit.RUN_AGAIN,
        "The API could not be reached: name, connection, proxy, TLS or time-out.",
        f"{_AGAIN} If it stays so for some minutes, tell the user: this shell may have no network.",
    ),
    "server_error": Kind(Exit.RUN_AGAIN, "The API answered 408 or 5xx to a look-up.", _AGAIN),
    "rate_limited": Kind(Exit.RUN_AGAIN, "The API kept answering 429: too many requests or jobs.", _AGAIN),
    "bad_response": Kind(
        Exit.RUN_AGAIN,
        "The answer is not the API's documented JSON, or comes from a gateway before it.",
        _AGAIN,
    ),
    "api_error": Kind(
        Exit.RUN_AGAIN, "Anything else that the API, or a fault in this program, said.", _AGAIN
    ),
    "usage": Kind(
        Exit.MEND_INPUT,
        "A flag, an argument or LEGNEXT_BASE_URL is wrong.",
        "Nothing was sent. Mend the command; --help shows each flag and examples.",
    ),
    "invalid_prompt": Kind(
        Exit.MEND_INPUT,
        "The prompt is empty, too long, not Unicode, or has a parameter known not to work.",
        "Nothing was sent. Mend the prompt and run the command again.",
    ),
    "invalid_request": Kind(
        Exit.MEND_INPUT,
        "The API answered 400, 413 or 422: it does not take this prompt or its parameters.",
        "Nothing was created. Mend the prompt's parameters as the message says, then run the command again.",
    ),
    "not_found": Kind(
        Exit.MEND_INPUT,
        "The API answered 404: it does not know this job, or no longer (look-up lasts about 3 days).",
        "Check the job id and LEGNEXT_BASE_URL; jobs can be looked up for about 3 days.",
        "Legnext does not know this job, or no longer (look-up lasts about 3 days). If it stays so, its "
        "pictures are lost; `--again` buys a new job, with the user's yes.",
    ),
    "file_error": Kind(
        Exit.MEND_INPUT,
        "The output directory, a record in it or the prompts file cannot be read or written.",
        "Nothing was sent. Name a directory that can be read and written, or a file that can be read.",
        "Free some space or make --output-dir writable first.",
    ),
    "missing_dependency": Kind(
        Exit.MEND_INPUT,
        "The Python package requests cannot be imported.",
        "Start the script with `uv run` instead of `python3` (it installs nothing for good), or install the "
        "package requests: `apt install python3-requests` on Debian and Ubuntu, `python3 -m pip install "
        "requests` elsewhere.",
    ),
    "setup_error": Kind(
        Exit.MEND_INPUT,
        "A certificate, a CA bundle, a proxy, a redirect or a closed network: it fails alike each time.",
        "Nothing was created. Mend this machine's set-up as the message says, then run the command again.",
        "Mend this machine's set-up as the message says first.",
    ),
    "missing_api_key": Kind(Exit.MEND_KEY, "LEGNEXT_API_KEY is not set.", _KEY),
    "invalid_api_key": Kind(
        Exit.MEND_KEY,
        "The key is malformed, a placeholder, or refused (401).",
        _KEY,
        "Set LEGNEXT_API_KEY to a valid key first.",
    ),
    "insufficient_balance": Kind(
        Exit.ASK_FOR_MONEY,
        "The balance does not cover what is to be submitted (seen before it was, or answered as 402).",
        "Nothing was created. Tell the user both numbers; they can top up at https://legnext.ai, or have "
        "fewer or cheaper pictures made.",
        "Check the balance with verify_api_key.py first.",
    ),
    "over_budget": Kind(
        Exit.ASK_FOR_MONEY,
        "The price is above --budget, or not known.",
        "Nothing was sent. Ask the user for a higher --budget, or for fewer or cheaper pictures.",
    ),
    "job_failed": Kind(
        Exit.CHANGE_PROMPT,
        "The job's status is failed.",
        "This job is over and is reported as it is, not bought again. Read the message: after moderation "
        '("Banned prompt") change the prompt; else the same one can be bought anew with --retry-failed or '
        "--again. Ask the user before you submit: a new job costs again.",
    ),
    "content_rejected": Kind(
        Exit.CHANGE_PROMPT,
        "Moderation refused the prompt (400 or 403).",
        "Nothing was created. Reword the prompt (the same words will be refused again), and ask the user "
        "before you submit it.",
    ),
    "forbidden": Kind(
        Exit.CHANGE_PROMPT,
        "The API answered 403: this account may not do that.",
        "Nothing was created. Leave out the feature that the message names, or ask support@legnext.ai.",
        "This account may not look at the job: check which account the key belongs to.",
    ),
    "timeout": Kind(
        Exit.RUN_AGAIN,
        "The job was not finished within --max-wait or --time-limit (without a job: nothing was sent).",
        _AGAIN,
    ),
    "download_failed": Kind(
        Exit.GO_ON,
        "The job is completed, but an image could not be fetched whole.",
        _AGAIN,
        "Give the user the pictures that are there at once. The same 404 or 403 after two more tries some "
        "minutes apart is for good (a missing grid is no loss): then stop, and name support@legnext.ai.",
    ),
    "no_images": Kind(
        Exit.GO_ON,
        "The job is completed, but it has no image.",
        _AGAIN,
        "Images may come late. If there are none after some minutes, moderation has most likely held "
        "them back: then change the prompt.",
    ),
    "submission_unknown": Kind(
        Exit.UNKNOWN,
        "The submit was sent and no usable answer came back (time-out, broken connection, 5xx, no job id).",
        "Do not submit again without the user's yes: a job may exist and be paid for, and its pictures are "
        "out of reach without its id. Look at the balance again after three minutes (verify_api_key.py). "
        "Tell the user `submitted_at` and both balances: one that fell by the job's price means that it was "
        "very probably paid for, an unchanged one proves nothing.",
    ),
    "interrupted": Kind(
        Exit.SIGINT,
        "A signal stopped the run (exit 129, 130 or 143).",
        "Nothing was sent for this prompt: run the command again when wanted.",
    ),
}
"""error.type -> its row; reference/output.md is tested against it."""

GO_ON = "The job exists and its price is taken or reserved; {again}. Go on with: {resume}"
BUYS_NOTHING = "the same command again buys nothing, it goes on with this job"
BUYS_ANEW = "do not submit it again"

_SAYS_NOTHING_OF_THE_JOB = {Exit.RUN_AGAIN}
_THE_ID_THE_KEY_OR_THE_MACHINE_IS_WRONG = {"not_found", "invalid_request", "invalid_api_key", "setup_error"}


def exit_code(type_: str, phase: Phase) -> Exit:
    """Say which exit code `type_` has in `phase`.

    Once this run knows a job, the one wrong thing to do is to submit again, so every failure is GO_ON,
    unless the job itself failed. An id that the user gave may be wrong, and one look may be repeated.
    """
    row = KINDS[type_]
    if phase in (Phase.NEW, Phase.HELD_BACK, Phase.SENT) or type_ == "job_failed":
        return row.exit
    if phase is not Phase.KNOWN and type_ in _THE_ID_THE_KEY_OR_THE_MACHINE_IS_WRONG:
        return row.exit
    if phase is Phase.ASKED and row.exit in _SAYS_NOTHING_OF_THE_JOB:
        return row.exit
    return Exit.GO_ON


class Failure(Exception):  # noqa: N818 - an error is what it becomes when printed
    """Something went wrong, with all that the error object needs.

    `code` is the HTTP status or the job's own error code. `hint` replaces the table's. `retry_after` is in
    seconds. `transient` says that a GET which met it may be tried again.
    """

    def __init__(
        self,
        type_: str,
        message: str,
        *,
        code: int | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message
        self.code = code
        self.hint = hint
        self.retry_after = retry_after
        self.transient = transient

    def as_json(self, hint: str) -> dict[str, object]:
        """Return the error object, with `hint` as the next step."""
        error: dict[str, object] = {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "hint": hint,
        }
        if self.retry_after is not None:
            error["retry_after"] = round(self.retry_after, 3)
        return error


def hint_for(failure: Failure, phase: Phase, resume: str | None, *, repeatable: bool = False) -> str:
    """Return the next step: the failure's own or the table's, and `resume` where there is one.

    `repeatable`: the job is on record, so that the same command goes on with it too.
    """
    row = KINDS[failure.type]
    if exit_code(failure.type, phase) is Exit.GO_ON and resume:
        words = GO_ON.format(again=BUYS_NOTHING if repeatable else BUYS_ANEW, resume=resume)
        return f"{failure.hint or row.before_going_on} {words}".strip()
    return failure.hint or row.hint


def unexpected(error: BaseException, *, sent: bool = False) -> Failure:
    """Return the Failure for a fault in this program; `sent` says that a submit was out when it happened."""
    message = f"unexpected fault in this program: {type(error).__name__}: {error}"
    return Failure("submission_unknown" if sent else "api_error", message)
