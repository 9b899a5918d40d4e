"""What a Midjourney prompt says, and what in it will not work, found before anything is paid.

Pure: text in, values out. What is known of each parameter stands in `PARAMETERS` and nowhere else; it comes
from the vendor documentation and is explained for a reader in reference/midjourney-parameters.md. An error is
for what is known not to work; what may be a mistake, or is newer than the table, is a warning.
"""

import re
from typing import Literal, NamedTuple

Level = Literal["error", "warning"]
Kind = Literal[
    "none", "number", "ratio", "version", "choice", "references", "url", "urls", "codes", "text", "syntax"
]

V8, V7, V6 = ("8.2", "8.1", "8"), ("7",), ("6.1", "6")
VERSIONS = (*V8, *V7, *V6, "niji 7", "niji 6")
"""The versions Legnext is documented to accept. One that is missing here is warned about, never refused."""
DEFAULT_VERSION = "7"


class Rule(NamedTuple):
    """One row of `PARAMETERS`."""

    flag: str
    kind: Kind
    note: str
    aliases: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    range_versions: tuple[str, ...] = VERSIONS  # where low and high hold
    steps: tuple[
        tuple[tuple[str, ...], tuple[float, ...]], ...
    ] = ()  # (versions, the only numbers they take)
    decimals: bool = False
    choices: tuple[str, ...] = ()
    default: str = ""
    versions: tuple[str, ...] = VERSIONS  # those documented to have it
    needs: str = ""
    conflicts: tuple[str, ...] = ()  # a pair is written down once, at one of the two
    unsettled: tuple[str, ...] = ()  # versions on which the sources disagree whether it works
    bare: str = ""  # what it means when no value follows
    refused: str = ""  # why it cannot work here at all, and what to do instead

    @property
    def takes(self) -> str:
        """The values it takes, in words: for messages and for the reference page."""
        if self.steps:
            return "; ".join(
                f"{_list(numbers)} on version {_list(versions)}" for versions, numbers in self.steps
            )
        if self.kind == "number":
            return f"{self.low} to {self.high}"
        return _list(self.choices) if self.kind == "choice" else _TAKES[self.kind]


_TAKES = {
    "none": "no value",
    "ratio": "W:H in whole numbers",
    "version": "a version number",
    "references": "URLs, codes or random, each with ::weight if wanted",
    "url": "one URL",
    "urls": "URLs",
    "codes": "codes",
    "text": "words",
    "syntax": "no value",
}
_ONE_EACH = "one job is one prompt and one grid, send one prompt for each"
_NOT_PUBLIC = "http://"
_PUBLIC = "Midjourney has to fetch it, give a public https URL"
_NO_VIDEO = "this call makes no video, leave it out"

# fmt: off
PARAMETERS = (
    Rule("--ar", "ratio", "width to height; 8.x: 1:4 to 4:1", ("--aspect",), 1 / 4, 4, V8, default="1:1"),
    Rule("--v", "version", "model version", ("--version",), default=DEFAULT_VERSION),
    Rule("--niji", "version", "anime model, instead of --v", conflicts=("--v",)),
    Rule("--stylize", "number", "how much of Midjourney's own taste", ("--s",), 0, 1000, default="100"),
    Rule("--chaos", "number", "how far the four pictures differ", ("--c",), 0, 100, default="0"),
    Rule("--weird", "number", "how odd the result", ("--w",), 0, 3000, default="0", unsettled=V8),
    Rule("--exp", "number", "more detail and movement", (), 0, 100, versions=(*V8, *V7, "niji 7")),
    Rule("--quality", "number", "time spent on detail", ("--q",), decimals=True,
         steps=((V7, (1, 2, 4)), (V6, (0.25, 0.5, 1, 2))), versions=("8", *V7, *V6, "niji 7", "niji 6")),
    Rule("--seed", "number", "starting noise; the same again gives a similar picture", (), 0, 4294967295),
    Rule("--stop", "number", "end early, at this percentage", (), 10, 100, versions=(*V6, "niji 6")),
    Rule("--tile", "none", "a texture that repeats without a seam"),
    Rule("--iw", "number", "weight of the image URL", (), 0, 3, decimals=True, needs="an image URL first"),
    Rule("--sref", "references", "style reference: its look, not its subject"),
    Rule("--sw", "number", "weight of --sref", (), 0, 1000, default="100", needs="--sref"),
    Rule("--sv", "number", "style reference model", (), 1, 6, needs="--sref"),
    Rule("--oref", "url", "omni reference: this person or thing", versions=V7,
         conflicts=("--draft", "--quality 4")),
    Rule("--ow", "number", "weight of --oref", (), 1, 1000, default="100", needs="--oref"),
    Rule("--cref", "urls", "character reference: this face", versions=(*V6, "niji 6")),
    Rule("--cw", "number", "weight of --cref", (), 0, 100, needs="--cref"),
    Rule("--no", "text", "what to keep out; each word counts alone", unsettled=V8),
    Rule("--raw", "none", "less of Midjourney's own taste"),
    Rule("--style", "choice", "older spelling of --raw", choices=("raw",)),
    Rule("--draft", "none", "rough pictures to choose from", versions=("8.2", "8.1", *V7)),
    Rule("--hd", "none", "larger pictures, 120 points", versions=V8, conflicts=("--draft",)),
    Rule("--fast", "none", "normal speed, 80 points"),
    Rule("--turbo", "none", "quicker, 160 points", conflicts=("--fast", "--relax")),
    Rule("--relax", "none", "slow queue", conflicts=("--fast",), unsettled=VERSIONS),
    Rule("--profile", "codes", "personal taste or moodboard", ("--p",),
         bare="alone it means the service's own account, not yours, give a code"),
    Rule("::", "syntax", "weights between parts of the text", versions=(*V7, *V6, "niji 6"), unsettled=V7),
    Rule("{a, b}", "syntax", "permutations", refused=_ONE_EACH),
    Rule("--repeat", "number", "the same prompt several times", ("--r",), refused=_ONE_EACH),
    Rule("--video", "none", "video", refused=_NO_VIDEO),
    Rule("--loop", "none", "video", refused=_NO_VIDEO),
    Rule("--motion", "text", "video", refused=_NO_VIDEO),
)
# fmt: on
"""What is known of each Midjourney parameter. A new one is a new row here and in the reference page."""

_BY_NAME = {name.lstrip("-"): rule for rule in PARAMETERS for name in (rule.flag, *rule.aliases)}


class Parameter(NamedTuple):
    """One flag of a prompt: its name as written, the table's name for it, and all that stands behind it."""

    name: str
    flag: str
    value: str


class Prompt(NamedTuple):
    """The parts of a prompt, in the order Midjourney reads them."""

    image_urls: tuple[str, ...]
    text: str
    parameters: tuple[Parameter, ...]


class Finding(NamedTuple):
    """One thing found in a prompt: the words at fault as written, and what to write instead."""

    level: Level
    words: str
    advice: str

    @property
    def message(self) -> str:
        """One line to show, such as `--ar 1.5:1: whole numbers only, write --ar 3:2`."""
        words = self.words if len(self.words) <= 60 else self.words[:57] + "..."
        return f"{words}: {self.advice}"


def parse(prompt: str) -> Prompt:
    """Take a prompt apart. A slip that can only be a flag (`—ar 16:9`, `--ar16:9`) is read as that flag."""
    image_urls, text, flags = _read(prompt)
    parameters = (
        Parameter(flag.name, flag.rule.flag if flag.rule else flag.name.lower(), _cut(prompt, flag.values))
        for flag in flags
    )
    return Prompt(tuple(word.text for word in image_urls), _cut(prompt, text), tuple(parameters))


def check(prompt: str) -> tuple[Finding, ...]:
    """List what will not work (`error`) or may not be meant (`warning`) in a prompt; () for a good one."""
    return tuple(finding for finding, _ in _judge(prompt))


def mend(prompt: str) -> str:
    """Make every repair that `check` spells out ("write …"); what the writer must decide is left alone."""
    pieces, done = [], 0
    for edit in sorted(edit for _, edit in _judge(prompt) if edit):
        pieces += [prompt[done : edit.start], edit.text]
        done = edit.end
    return "".join(pieces) + prompt[done:]


# --- Reading: words first, then flags with the words that follow each.


class _Word(NamedTuple):
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


_Judged = tuple[Finding, _Edit | None]


class _Flag(NamedTuple):
    name: str  # as written, without a value glued to it
    rule: Rule | None
    values: list[_Word]
    slip: _Judged | None = None  # what is wrong with the way the flag itself is written


# None of these patterns can match one stretch of text in two ways: linear time on any input.
_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_URL = re.compile(r"https?://\S+")
# Text, which `re` compiles when it is first needed and then keeps: few prompts need them all.
_SHAPES = {
    "number": f"-?{_NUMBER}",
    "ratio": f"({_NUMBER})([:x/\u00d7\uff1a])({_NUMBER})",
    "version": f"[vV]?{_NUMBER}",
    "references": f"{_URL.pattern}|(?:[0-9]+|random)(?:::{_NUMBER})?",
    "url": _URL.pattern,
    "urls": _URL.pattern,
    # Five at least, so that the little words of a sentence that went astray behind --p are no codes.
    "codes": f"[A-Za-z0-9]{{5,}}(?:::{_NUMBER})?",
}
_DASHES = (
    "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"  # hyphens, en and em dash, minus, wide
)
_FLAG = re.compile(f"([{_DASHES}]+)([A-Za-z]+)([=:]?)(.*)", re.DOTALL)
# A word ends at white space, or where a ratio flag is glued to it (`cat—ar 16:9`).
_WORD = re.compile(rf"\S+?(?<![{_DASHES}])(?=(?:--|[\u2013\u2014]{{1,2}})(?:ar|aspect)\s+[0-9])|\S+")
_PERMUTATION = re.compile(r"\{[^{},]*,[^{}]*\}")
_OPENING = "([{\"'`\u201c\u2018"
_CLOSING = ")]}\"'`\u201d\u2019,.;:!?\u2026\u3001\u3002\uff0c\uff1b\uff1a\uff01\uff1f"


def _read(prompt: str) -> tuple[list[_Word], list[_Word], list[_Flag]]:
    """Return the image URLs at the front, the words of the text, and the flags."""
    words = [_Word(match[0], match.start()) for match in _WORD.finditer(prompt)]
    text: list[_Word] = []
    flags: list[_Flag] = []
    position = 0
    while position < len(words):
        flag, used = _flag_at(prompt, words[position : position + 3], inside=bool(flags))
        if flag:
            flags.append(flag)
        else:
            (flags[-1].values if flags else text).append(words[position])
        position += used
    urls = next((i for i, word in enumerate(text) if not _URL.match(word.text)), len(text))
    return text[:urls], text[urls:], flags


def _flag_at(prompt: str, words: list[_Word], *, inside: bool) -> tuple[_Flag | None, int]:
    """Return the flag that begins with the first of these words, and how many words its name took."""
    used = 2 if words[0].text == "--" and len(words) > 1 and words[1].text[0].isalpha() else 1  # `-- ar 16:9`
    last, after = words[used - 1], words[used] if len(words) > used else None
    match = _FLAG.fullmatch(last.text if used == 1 else "--" + last.text)
    if not match:
        return None, 1
    dashes, name, separator, rest = match.groups()
    rule = _BY_NAME.get(name.lower())
    glued = bool(rule and rest and _is_surely_a_value(rule, rest))
    if not rule or not (glued or not (separator + rest).strip(_CLOSING + "=")):
        return (_Flag(last.text, None, []), 1) if dashes == "--" and used == 1 else (None, 1)
    value = rest if glued else after.text if after and _is_surely_a_value(rule, after.text) else ""
    if (dashes != "--" or used == 2) and not value and not _is_surely_meant(rule, name, after, inside=inside):
        return None, 1

    start, end = words[0].start, last.end - len(rest) if glued else last.end
    before = "" if start == 0 or prompt[start - 1].isspace() else " "
    edit = _Edit(start, end, f"{before}--{name}{' ' if glued else ''}")
    values = [_Word(rest, end)] if glued else []
    if prompt[start:end] == edit.text:
        return _Flag(edit.text, rule, values), used
    if dashes != "--":
        reason = "a flag begins with two plain hyphens"
    elif used == 2:
        reason = "no space behind the hyphens"
    elif glued or before:
        reason = f"a space is missing before the {'value' if glued else 'flag'}"
    else:
        reason = "no punctuation behind a flag"
    level: Level = "error" if dashes != "--" and value else "warning"
    shown = prompt[start : after.end if after and value and not glued else last.end]
    finding = Finding(level, shown, f"{reason}, write {f'--{name} {value}'.rstrip()}")
    return _Flag(prompt[start : last.end - len(separator + rest)], rule, values, (finding, edit)), used


def _is_surely_a_value(rule: Rule, text: str) -> bool:
    """Say whether this word, behind the name of a flag, can hardly be prose."""
    bare = _bare(text)
    if rule.kind == "choice":
        return bare in rule.choices
    shape = _SHAPES.get(rule.kind)
    return bool(shape and re.fullmatch(shape, bare)) and (
        rule.kind != "codes" or bool(re.search("[0-9]", bare))
    )


def _is_surely_meant(rule: Rule, name: str, after: _Word | None, *, inside: bool) -> bool:
    """Say whether a name behind the wrong dashes is a flag; prose has dashes too (`a man —no saint`)."""
    if rule.refused or not name.islower():
        return False
    if rule.kind == "none":
        match = _FLAG.fullmatch(after.text) if after else None
        return not after or bool(match and match[2] in _BY_NAME)
    return rule.kind == "text" and inside


# --- Judging: each finding with the edit that mends it, where there is just one thing to write.


def _judge(prompt: str) -> list[_Judged]:
    image_urls, text, flags = _read(prompt)
    version = _version_asked(flags)
    judged: list[_Judged] = [
        (Finding("error", match[0], _BY_NAME["{a, b}"].refused), None)
        for match in _PERMUTATION.finditer(prompt)
    ]
    judged += [
        (Finding("warning", url.text, _PUBLIC), None)
        for url in image_urls
        if url.text.startswith(_NOT_PUBLIC)
    ]
    weighted = [word.text for word in text if "::" in word.text and not _URL.match(word.text)]
    advice = _version_advice(_BY_NAME["::"], version)
    if weighted and advice:
        judged.append((Finding("warning", weighted[0], advice), None))
    present = {"an image URL first"} if image_urls else set()
    for flag in flags:
        if flag.rule:
            present |= {
                flag.rule.flag,
                " ".join([flag.rule.flag, *(_bare(word.text) for word in flag.values[:1])]),
            }
    seen: set[str] = set()
    for flag in flags:
        if flag.slip:
            judged.append(flag.slip)
        if not flag.rule:
            judged.append((Finding("warning", flag.name, "not a flag known here, check the spelling"), None))
            continue
        judged += _judge_flag(prompt, flag, flag.rule, version)
        words = " ".join([flag.name, *(word.text for word in flag.values[:1])])
        for advice in _company_advice(flag.rule, present, seen):
            judged.append((Finding("warning", words, advice), None))
        seen.add(flag.rule.flag)
    return judged


def _judge_flag(prompt: str, flag: _Flag, rule: Rule, version: str | None) -> list[_Judged]:
    """Judge one flag by itself: whether it can work at all, its values, its version."""
    if rule.refused:
        return [(Finding("error", f"{flag.name} {_cut(prompt, flag.values)}".rstrip(), rule.refused), None)]
    judged: list[_Judged] = []
    own = _count_own(rule, flag.values)
    if not flag.values and rule.kind != "none":
        level: Level = "error" if rule.kind in ("number", "ratio") else "warning"
        judged.append((Finding(level, flag.name, rule.bare or f"the value is missing: {rule.takes}"), None))
    for word in flag.values[:own]:
        fault = _fault(rule, word.text, version)
        if fault:
            level, advice, instead = fault
            edit = _Edit(word.start, word.end, instead) if instead else None
            if instead:
                advice += f", write --{flag.name.lstrip(_DASHES).lstrip()} {instead}"
            judged.append((Finding(level, f"{flag.name} {word.text}", advice), edit))
    if flag.values[own:]:
        advice = f"stands behind {flag.name}, which takes {rule.takes}; put all text before the first flag"
        judged.append((Finding("warning", _cut(prompt, flag.values[own:]), advice), None))
    advice = _version_advice(rule, version)
    if advice:
        judged.append((Finding("warning", flag.name, advice), None))
    return judged


def _company_advice(rule: Rule, present: set[str], seen: set[str]) -> list[str]:
    """Advise on what else is in the prompt: the flag again, what it needs, what it does not go with."""
    advice = [f"does not go with {other}, keep one" for other in rule.conflicts if other in present]
    if rule.needs and rule.needs not in present:
        advice.append(f"needs {rule.needs}")
    if rule.flag in seen:
        advice.append("the same flag a second time, keep one")
    return [] if rule.refused else advice


def _version_advice(rule: Rule, version: str | None) -> str:
    if version in rule.unsettled:
        return "unsettled, may not work" + ("" if rule.unsettled == VERSIONS else f" on version {version}")
    if version and version not in rule.versions:
        return f"not documented for version {version}, only for {_list(rule.versions)}"
    return ""


def _version_asked(flags: list[_Flag]) -> str | None:
    """Return the version the prompt asks for; None if it is not one of `VERSIONS`, or two are asked for."""
    asked = [flag for flag in flags if flag.rule and flag.rule.kind == "version"]
    if not asked:
        return DEFAULT_VERSION
    version = _version(asked[0].rule, asked[0].values[0].text) if asked[0].values else None
    return version if version in VERSIONS and len(asked) == 1 else None


def _version(rule: Rule | None, text: str) -> str:
    number = _bare(text).lstrip("vV")
    return f"niji {number}" if rule and rule.flag == "--niji" else number


def _count_own(rule: Rule, values: list[_Word]) -> int:
    """Count the words behind a flag that are its value; the rest is text that went astray."""
    if rule.kind == "text":
        return len(values)
    if rule.kind in ("references", "urls", "codes"):
        shape = _SHAPES[rule.kind]
        return next(
            (i for i, word in enumerate(values) if i and not re.fullmatch(shape, _bare(word.text))),
            len(values),
        )
    return 0 if rule.kind == "none" else 1


def _fault(rule: Rule, text: str, version: str | None) -> tuple[Level, str, str] | None:
    """Find what is wrong with one value: the level, the reason, and what to write instead ("" if open)."""
    if rule.kind == "text":
        return None
    bare = _bare(text)
    shape = _SHAPES.get(rule.kind)
    match = re.fullmatch(shape, bare) if shape else None
    if not match and bare not in rule.choices:
        return "error" if rule.kind in ("number", "ratio") else "warning", f"takes {rule.takes}", ""
    fault = None
    if match and rule.kind == "ratio":
        fault = _ratio_fault(rule, match[1], match[2], match[3], version)
    elif rule.kind == "number":
        fault = _number_fault(rule, bare, version)
    elif rule.kind == "version" and bare[0] in "vV":
        fault = "error", "the number alone", bare[1:]
    if not fault and bare != text:
        fault = "warning" if "://" in bare else "error", "no punctuation behind a value", bare
    if not fault and bare.startswith(_NOT_PUBLIC):
        fault = "warning", _PUBLIC, ""
    if not fault and rule.kind == "version" and _version(rule, text) not in VERSIONS:
        fault = "warning", f"not a version known here, known are {_list(VERSIONS)}", ""
    return fault


def _number_fault(rule: Rule, bare: str, version: str | None) -> tuple[Level, str, str] | None:
    number = float(bare)
    allowed = [numbers for _, numbers in rule.steps]
    if not (any(number in numbers for numbers in allowed) if allowed else rule.low <= number <= rule.high):
        # A version that is not known here may well take more.
        return "error" if version else "warning", f"takes {rule.takes}", ""
    if any(version in versions and number not in numbers for versions, numbers in rule.steps):
        return "warning", f"takes {rule.takes}", ""
    if "." in bare and not rule.decimals:
        return "warning", f"takes {rule.takes} in whole numbers", ""
    return None


def _ratio_fault(
    rule: Rule, width: str, colon: str, height: str, version: str | None
) -> tuple[Level, str, str] | None:
    w, h = float(width), float(height)
    if not w or not h:
        return "error", f"takes {rule.takes}", ""
    if version in rule.range_versions and not rule.low <= w / h <= rule.high:
        return "error", f"1:4 to 4:1 on version {version}", ""
    if "." in width + height:
        return "error", "whole numbers only", _whole_ratio(width, height)
    return None if colon == ":" else ("error", f"takes {rule.takes}", f"{width}:{height}")


def _whole_ratio(width: str, height: str) -> str:
    """Return the same ratio in the smallest whole numbers (1.5 and 1: 3:2), "" for absurdly long ones."""
    if len(width + height) > 20:
        return ""
    places = max(len(number.partition(".")[2]) for number in (width, height))
    w, h = (int(f"{n.partition('.')[0]}{n.partition('.')[2]:0<{places}}") for n in (width, height))
    divisor, rest = w, h
    while rest:
        divisor, rest = rest, divisor % rest
    return f"{w // divisor}:{h // divisor}"


def _bare(value: str) -> str:
    """Strip the punctuation that prose or a stray quote left on a value; most of it may end a URL."""
    return value.rstrip(",;") if "://" in value else value.lstrip(_OPENING).rstrip(_CLOSING)


def _cut(prompt: str, words: list[_Word]) -> str:
    return prompt[words[0].start : words[-1].end] if words else ""


def _list(items: tuple[str, ...] | tuple[float, ...]) -> str:
    return ", ".join(map(str, items))
