"""What a Midjourney prompt says, what in it will not work, and its price: known before anything is paid.

Pure: text in, values out. What is known of each parameter stands in `PARAMETERS` and nowhere else;
reference/midjourney-parameters.md explains it for a reader. An error is for a slip that would be billed as
something else, for what one job cannot carry, and for a number outside a range on which Midjourney's own
pages are plain. All else is a warning: a check must not refuse what would have been drawn as meant.
"""

import re
from math import gcd
from typing import Literal, NamedTuple

Level = Literal["error", "warning"]
Kind = Literal[
    "none", "number", "ratio", "version", "choice", "references", "url", "urls", "codes", "text", "syntax"
]
Source = Literal["official", "vendor", "clients", "open"]
"""Midjourney's own pages, Legnext's, what other clients recorded, or sources that disagree."""

POINTS_PER_USD = 1000
NORMAL_POINTS = 80

V8, V7, V6, NIJI7, NIJI6 = "V8", "V7", "V6", "niji 7", "niji 6"
VERSIONS = {"8.2": V8, "8.1": V8, "7": V7, "6.1": V6, "6": V6, "niji 7": NIJI7, "niji 6": NIJI6}
"""Each version Legnext is documented to take, and the family whose flags it has. Others are warned about."""
DEFAULT_VERSION = "7"
TABLE_READ = "2026-11"
"""When the sources of this table were read."""


class Rule(NamedTuple):
    """One row of `PARAMETERS`."""

    flag: str
    kind: Kind
    source: Source
    note: str
    aliases: tuple[str, ...] = ()
    values: str = ""  # "0 to 100"; "0.0 to 3.0" takes decimals; "1, 2 (3 unsettled) on V7; 0.5, 1 on V6"
    default: str = ""
    families: tuple[str, ...] = ()  # those documented to have it; () all
    needs: str = ""
    yields_to: tuple[str, ...] = ()  # leave it out where one of these is; "4 --oref": its value 4
    points: int | None = NORMAL_POINTS  # of a job that has it; None: nobody documents it
    refused: str = ""  # why it cannot work here at all, and what to do instead
    doubt: str = ""  # what may go wrong whenever it is used

    @property
    def takes(self) -> str:
        """The values it takes, in words: for messages and for the reference page."""
        return self.values or _TAKES[self.kind]


_TAKES = {
    "none": "no value",
    "ratio": "W:H in whole numbers",
    "version": "a version number",
    "references": "URLs, codes or random, each with ::weight if wanted",
    "url": "one URL",
    "urls": "URLs",
    "codes": "a code of your own (without one it is the service's account)",
    "text": "words",
    "syntax": "no value",
}
_ONE_EACH = "one job is one prompt and one grid, send one prompt for each"
_MOODBOARD = "a moodboard (--p m...)"
_AN_IMAGE_URL = "an image URL at the front"
_NO_VIDEO = "this call makes no video, leave it out"
_ACCOUNT = "a setting of the service's own account, leave it out"

# fmt: off
PARAMETERS = (
    Rule("--ar", "ratio", "official", "width to height", ("--aspect",), default="1:1"),
    Rule("--v", "version", "official", "model version", ("--version",), default=DEFAULT_VERSION,
         yields_to=("--niji",)),
    Rule("--niji", "version", "official", "anime model, instead of --v"),
    Rule("--stylize", "number", "official", "how much of Midjourney's own taste", ("--s",), "0 to 1000",
         "100"),
    Rule("--chaos", "number", "official", "how far the four pictures differ", ("--c",), "0 to 100", "0"),
    Rule("--weird", "number", "official", "how odd the result", ("--w",), "0 to 3000", "0"),
    Rule("--exp", "number", "official", "more detail and movement", (), "0 to 100", "0", (V8, V7)),
    Rule("--quality", "number", "official", "time spent on detail", ("--q",),
         "1, 2, 4 on V7; 0.5, 1, 2 (0.25 unsettled) on V6", "1", (V7, V6, NIJI7, NIJI6),
         yields_to=("4 --oref",), points=None),
    Rule("--seed", "number", "official", "starting noise; the same again gives a similar picture", (),
         "0 to 4294967295"),
    Rule("--stop", "number", "official", "end early, at this percentage", (), "10 to 100",
         families=(V6, NIJI6)),
    Rule("--tile", "none", "official", "a texture that repeats without a seam", yields_to=("--edit",)),
    Rule("--iw", "number", "official", "weight of the image URL", (), "0.0 to 3.0; 0.0 to 2.0 on niji 7", "1",
         needs=_AN_IMAGE_URL),
    Rule("--sref", "references", "official", "style reference: its look, not its subject"),
    Rule("--sw", "number", "official", "weight of --sref", (), "0 to 1000", "100", needs="--sref",
         yields_to=(_MOODBOARD,)),
    Rule("--sv", "number", "official", "style reference model", (), "1 to 6 (7 unsettled)", "6",
         needs="--sref", yields_to=(_MOODBOARD,)),
    Rule("--oref", "url", "official", "omni reference: this person or thing, twice the time", families=(V7,),
         points=None),
    Rule("--ow", "number", "official", "weight of --oref", (), "1 to 1000 (0 unsettled)", "100",
         needs="--oref"),
    Rule("--edit", "urls", "official", "up to four pictures to work from", families=(V8,), points=None,
         doubt="whether Legnext passes it on is not known, look what came before you buy more"),
    Rule("--cref", "urls", "clients", "character reference: this face", families=(V6, NIJI6)),
    Rule("--cw", "number", "official", "weight of --cref", (), "0 to 100", needs="--cref"),
    Rule("--no", "text", "official", "what to keep out; each word counts alone"),
    Rule("--raw", "none", "official", "less of Midjourney's own taste"),
    Rule("--style", "choice", "official", "older spelling of --raw", values="raw"),
    Rule("--draft", "none", "official", "rough pictures to choose from", families=(V7,),
         yields_to=("--oref", "--hd"), points=None),
    Rule("--hd", "none", "official", "2048 px instead of 1024 px", families=(V8,), points=120),
    Rule("--sd", "none", "official", "1024 px, as without it", families=(V8,), yields_to=("--hd",)),
    Rule("--fast", "none", "vendor", "normal speed", yields_to=("--turbo", "--relax", "--oref")),
    Rule("--turbo", "none", "vendor", "quicker", families=(V7, V6, NIJI7, NIJI6), points=160),
    Rule("--relax", "none", "open", "slow queue", yields_to=("--turbo",), points=None,
         doubt="whether Legnext has a slow queue is unsettled, leave it out"),
    Rule("--profile", "codes", "official", "personal taste, or a moodboard (m…)", ("--p",)),
    Rule("--stealth", "none", "official", "who may see it", doubt=_ACCOUNT),
    Rule("--public", "none", "official", "who may see it", doubt=_ACCOUNT),
    Rule("--preview", "none", "official", "an early look", doubt=_ACCOUNT),
    Rule("::", "syntax", "official", "weights between parts of the text", families=(V6,)),
    Rule("{a, b}", "syntax", "official", "permutations", points=None, refused=_ONE_EACH),
    Rule("--repeat", "number", "official", "the same prompt several times", ("--r",), points=None,
         refused=_ONE_EACH),
    Rule("--video", "none", "official", "video", points=None, refused=_NO_VIDEO),
    Rule("--loop", "none", "official", "video", points=None, refused=_NO_VIDEO),
    Rule("--motion", "text", "official", "video", points=None, refused=_NO_VIDEO),
    Rule("--bs", "number", "official", "video", points=None, refused=_NO_VIDEO),
    Rule("--end", "url", "official", "video", points=None, refused=_NO_VIDEO),
)
# fmt: on
"""What is known of each Midjourney parameter. A new one is a new row here and in the reference page."""

_BY_NAME = {name.lstrip("-"): rule for rule in PARAMETERS for name in (rule.flag, *rule.aliases)}
_GONE = ("--test", "--testp", "--creative", "--upbeta", "--uplight", "--beta")
_WIDEST, _WIDEST_HD = 14, 4  # --ar: this to one, or one to this
_MANY_WORDS = 60


class Finding(NamedTuple):
    """One thing found in a prompt: the words at fault as written, and what to write instead."""

    level: Level
    words: str
    advice: str

    @property
    def message(self) -> str:
        """One line to show, such as `--ar 1.5:1: whole numbers only, write --ar 3:2`."""
        words = " ".join(self.words.split())
        words = words if len(words) <= 60 else words[:57] + "..."
        return f"{words}: {self.advice}"


def check(prompt: str) -> tuple[Finding, ...]:
    """List what will not work (`error`) or may not be meant (`warning`) in a prompt; () for a good one."""
    return tuple(finding for finding, _ in _judge(prompt))


def mend(prompt: str) -> str:
    """Make every repair that `check` spells out ("write …"); what the writer must decide is left alone."""
    for _ in range(9):  # text that has moved may touch what makes another slip of it
        pieces, done = [], 0
        edits = [edit for _, edits in _judge(prompt) for edit in edits]
        for start, end, text in sorted(edits, key=lambda edit: edit[:2]):
            if start >= done:
                pieces += [prompt[done:start], text]
                done = end
        if not pieces:
            break
        prompt = "".join(pieces) + prompt[done:]
    return prompt


def points(prompt: str) -> int | None:
    """Return the price of one job for this prompt in points, None where nobody documents it."""
    _, _, flags = _read(prompt)
    family = VERSIONS.get(_version_asked(flags) or "")
    prices: set[int | None] = set()
    if any("," in braces for braces in re.findall(_BRACES, prompt)):
        prices.add(None)
    for flag in flags:
        if flag.rule and not (flag.values and _bare(flag.values[0].text) == flag.rule.default):
            # The one flag whose price depends on the version: 8.x has no --turbo.
            unknown = flag.rule.flag == "--turbo" and family not in flag.rule.families
            prices.add(None if unknown else flag.rule.points)
    prices.discard(NORMAL_POINTS)
    return NORMAL_POINTS if not prices else prices.pop() if len(prices) == 1 else None


def usd(points: int) -> float:
    """Return the dollars that so many points are."""
    return points / POINTS_PER_USD


# --- Reading: words first, then flags with the words that follow each.


class _Word(NamedTuple):
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_Edit = tuple[int, int, str]
_Judged = tuple[Finding, tuple[_Edit, ...]]


def _found(level: Level, words: str, advice: str, *edits: _Edit) -> _Judged:
    return Finding(level, words, advice), edits


class _Slip(NamedTuple):
    """What is wrong with the way a flag itself is written."""

    level: Level
    words: str
    reason: str
    name: str
    value: str  # the first one, where it is surely one
    edit: _Edit


class _Flag(NamedTuple):
    name: str  # as written, without a value glued to it
    start: int
    rule: Rule | None
    values: list[_Word]
    slip: _Slip | None = None


# Text, which `re` compiles when it is first needed and then keeps: few prompts need them all.
# None of these patterns can match one stretch of text in two ways: linear time on any input.
_NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
_URL = r"https?://\S+"
_COLON = "[:x/\u00d7\u2236\ufe55\uff1a]"
_SHAPES = {
    "number": f"-?{_NUMBER}",
    "ratio": rf"({_NUMBER})\s?{_COLON}\s?({_NUMBER})",
    "version": f"[vV]?{_NUMBER}",
    "references": f"{_URL}|(?:[0-9]+|random)(?:::{_NUMBER})?",
    "url": _URL,
    "urls": _URL,
    # Five at least, so that the little words of a sentence that went astray behind --p are no codes.
    "codes": f"[A-Za-z0-9]{{5,}}(?:::{_NUMBER})?",
    # The styles of versions that are gone are no values any more, but show that a flag was meant.
    "choice": "raw|cute|expressive|original|scenic",
}
_DASHES = (
    "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"  # hyphens, en and em dash, minus, wide
)
_OPENING = "([{\"'`*\u201c\u2018"
_CLOSING = ")]}\"'`*\u201d\u2019,.;:!?\u2026\u0964\u3001\u3002\uff0c\uff1b\uff1a\uff01\uff1f"
_FLAG = rf"(?s)([{re.escape(_OPENING)}]*)([{_DASHES}]+)([A-Za-z]+)([=:]?)(.*)"
_BRACES = r"\{[^{}]+\}"
_JSON = r"\{\s*(?:[\"'\u201c][^\"'\u201d{}]{1,40}[\"'\u201d]|[^\W\d]\w{0,40})\s*:(?!:)"


def _named(*kinds: Kind) -> str:
    return "|".join(name for name, rule in _BY_NAME.items() if rule.kind in kinds)


# A flag glued to the word before it, where nothing else can be meant: `cat—ar 16:9`, `a cat,--v 7`.
_GLUED = (
    rf"[(\[\"]?[-\u2013\u2014]{{1,2}}\s?(?:ar|aspect)\s+\d"
    rf"|[(\[\"]?--(?:{_named('number', 'version')})\s+[vV]?\.?\d"
    rf"|[\u2013\u2014]{{1,2}}(?:{_named('number', 'version')})\s+[vV]?\.?\d[\d.]*(?=\s*\Z|\s[-\u2013\u2014])"
    rf"|(?<=\d)--(?:{_named('none')})(?!\S)"
)
# Where none of this is, words end at white space alone: `_WORD` takes 4 ms to compile.
_ODD = (
    r"[^\s\-\u2013\u2014][-\u2013\u2014]|\s[:\uff1a\u2236]|[:\uff1a\u2236]\s"
    r"|\d[,;\u0964\u3001\u3002\uff0c\uff1b]"
)
_WORD = (
    r"(?<!\S)[\d.]{1,5}(?:\s[:\uff1a\u2236]\s?|[:\uff1a\u2236]\s)\d[\d.]{0,4}"  # 9: 16
    r"|(?<!\S)[\d.:\uff1a\u2236]*\d(?=[,;\u0964\u3001\u3002\uff0c\uff1b]+[^\W\d_])"  # 9:16,copy
    rf"|(?!https?:|[{re.escape(_OPENING)}][{_DASHES}])\S+?(?<![{_DASHES}])(?={_GLUED})|\S+"
)


def _read(prompt: str) -> tuple[list[_Word], list[_Word], list[_Flag]]:
    """Return the image URLs at the front, the words of the text, and the flags."""
    word = _WORD if re.search(_ODD, prompt) else r"\S+"
    words = [_Word(match[0], match.start()) for match in re.finditer(word, prompt)]
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
    urls = next((i for i, word in enumerate(text) if not re.match(_URL, word.text)), len(text))
    return text[:urls], text[urls:], flags


def _flag_at(prompt: str, words: list[_Word], *, inside: bool) -> tuple[_Flag | None, int]:
    """Return the flag that begins with the first of these words, and how many words its name took."""
    used = 1
    if words[0].text.lstrip(_OPENING)[:1] not in _DASHES:  # nearly all
        return None, used
    if not words[0].text.strip(_DASHES) and len(words) > 1 and words[1].text[0].isalpha():
        used = 2  # `-- ar 16:9`, `— ar 16:9`
    last, after = words[used - 1], words[used] if len(words) > used else None
    match = re.fullmatch(_FLAG, last.text if used == 1 else words[0].text + last.text)
    if not match:
        return None, 1
    opening, dashes, name, separator, rest = match.groups()
    rule = _BY_NAME.get(name.lower())
    glued = bool(rule and rest and _is_surely_a_value(rule, rest))
    if not rule or not (glued or not (separator + rest).strip(_CLOSING + "=")):
        known_to_be_one = dashes == "--" and used == 1 and not opening
        return (_Flag(last.text, last.start, None, []), 1) if known_to_be_one else (None, 1)
    value = rest if glued else after.text if after and _is_surely_a_value(rule, after.text) else ""
    if (dashes, used) != ("--", 1) and not value and not _is_surely_meant(rule, name, after, inside=inside):
        return None, 1
    if used == 2 and dashes != "--" and rule.kind != "ratio":  # prose: `the manual — version 2`
        return None, 1

    start, end = words[0].start, last.end - len(rest) if glued else last.end
    before = "" if start == 0 or prompt[start - 1].isspace() else " "
    edit = (start, end, f"{before}--{name}{' ' if glued else ''}")
    values = [_Word(rest, end)] if glued else []
    if prompt[start:end] == edit[2]:
        return _Flag(edit[2], start, rule, values), used
    if dashes != "--":
        reason = "a flag begins with two plain hyphens"
    elif used == 2:
        reason = "no space behind the hyphens"
    elif glued or before:
        reason = f"a space is missing before the {'value' if glued else 'flag'}"
    else:
        reason = "no punctuation around a flag"
    level: Level = "error" if value or (dashes, used) == ("--", 1) else "warning"
    shown = prompt[start : after.end if after and value and not glued else last.end]
    slip = _Slip(level, shown, reason, f"--{name}", value, edit)
    return _Flag(prompt[start : last.end - len(separator + rest)], start, rule, values, slip), used


def _is_surely_a_value(rule: Rule, text: str) -> bool:
    """Say whether this word, behind the name of a flag, can hardly be prose."""
    return _fits(rule, text) and (rule.kind != "codes" or bool(re.search("[0-9]", text)))


def _fits(rule: Rule, text: str) -> bool:
    shape = _SHAPES.get(rule.kind)
    return bool(shape and re.fullmatch(shape, _bare(text)))


def _is_surely_meant(rule: Rule, name: str, after: _Word | None, *, inside: bool) -> bool:
    """Say whether a name behind the wrong dashes is a flag; prose has dashes too (`a man —no saint`)."""
    if rule.refused or not name.islower():
        return False
    if rule.kind == "none":
        match = re.fullmatch(_FLAG, after.text) if after else None
        return not after or bool(match and match[3] in _BY_NAME)
    return rule.kind == "text" and inside


# --- Judging: each finding with the edits that mend it, where there is just one thing to write.


def _judge(prompt: str) -> list[_Judged]:
    image_urls, text, flags = _read(prompt)
    close = prompt.rfind("}")
    if close > 0 and (match := re.search(_JSON, prompt[: close + 1])):
        torn = "," in prompt[match.end() : close] or any(flag.start < close for flag in flags)
        advice = "JSON means nothing to Midjourney, with a comma it is permutations; use plain words"
        return [_found("error" if torn else "warning", match[0].rstrip(": "), advice)]
    version = _version_asked(flags)
    judged = _judge_text(prompt, image_urls, text, version)
    present = {flag.rule.flag for flag in flags if flag.rule}
    if image_urls:
        present.add(_AN_IMAGE_URL)
    if any(f.rule and f.rule.kind == "codes" and f.values and f.values[0].text[0] == "m" for f in flags):
        present.add(_MOODBOARD)
    second = _find_second_prompt(prompt, flags)
    if second:
        judged.append(_found("error", second, f"a second prompt begins here: {_ONE_EACH}"))
    seen: set[Rule] = set()
    for flag in flags:
        if not flag.rule:
            advice = "not a flag known here and likely refused, check the spelling or leave it out"
            if flag.name.lower().rstrip(_CLOSING) in _GONE:
                advice = "a flag of versions that are gone, leave it out"
            judged.append(_found("warning", flag.name, advice))
            continue
        judged += _judge_flag(prompt, flag, flag.rule, version, present)
        if second:
            continue
        if flag.rule in seen:
            words = " ".join([flag.name, *(word.text for word in flag.values[:1])])
            judged.append(
                _found("warning", words, "the same flag a second time and only one counts, keep one")
            )
        seen.add(flag.rule)
        if stray := _stray(flag):
            judged.append(_judge_stray(prompt, flag, flag.rule, stray, flags[0].start))
    return judged


def _judge_text(
    prompt: str, image_urls: list[_Word], text: list[_Word], version: str | None
) -> list[_Judged]:
    """Judge what is no flag: its beginning, its length, braces, weights, image URLs."""
    judged: list[_Judged] = []
    if match := re.match(r"\W*?((?:/imagine\b(?:\s+prompt)?(?:\s*:)?\s*)+)", prompt):
        advice = "Discord's command and no part of the prompt, leave it out"
        judged.append(_found("warning", match[1].strip(), advice, (*match.span(1), "")))
    braces: list[str] = re.findall(_BRACES, prompt)
    blanks = [part for part in braces if "," not in part and re.search(r"[^\W\d_]", part)]
    blanks += [part for part in braces if "," in part and re.match(r"\{argument\b", part)]
    permutations = [part for part in braces if "," in part and part not in blanks]
    judged += [_found("error", part, _ONE_EACH) for part in permutations]
    blanks += re.findall(r"\[[^\W\d][\w -]{0,40}\]", prompt)
    if blanks:
        # With a comma in it Midjourney takes it for permutations.
        level: Level = "error" if any("," in part for part in blanks if part[0] == "{") else "warning"
        advice = "a blank that nobody filled in? It would be sent as it stands, put the words in"
        judged.append(_found(level, " ".join(dict.fromkeys(blanks)), advice))
    for url in image_urls:
        judged += [_found("warning", url.text, advice) for advice in _url_advice(url.text)]
    if any(word.text == "--" for word in text):
        advice = "two hyphens alone may be taken for a flag without a name, use a comma"
        judged.append(_found("warning", "--", advice))
    weighted = [word.text for word in text if "::" in word.text and not re.match(_URL, word.text)]
    if weighted and (advice := _version_advice(_BY_NAME["::"], version)):
        judged.append(_found("warning", weighted[0], advice))
    if len(text) > _MANY_WORDS:
        advice = f"above {_MANY_WORDS} the later ones are likely ignored, shorten it to what matters"
        judged.append(_found("warning", f"{len(text)} words", advice))
    return judged


def _find_second_prompt(prompt: str, flags: list[_Flag]) -> str:
    """Return the text with which a second prompt begins: behind flags, and then one of them comes again."""
    seen: set[Rule] = set()
    stray = ""
    for flag in flags:
        if flag.rule:
            if stray and flag.rule in seen:
                return stray
            seen.add(flag.rule)
            words = _cut(prompt, _stray(flag))
            stray = stray or (words if re.search(r"[^\W\d_]", words) else "")
    return ""


def _judge_stray(prompt: str, flag: _Flag, rule: Rule, stray: list[_Word], front: int) -> _Judged:
    """Judge the words behind a flag that are not its value; `front` is where the text should have ended."""
    words = _cut(prompt, stray)
    if re.match(_URL, words):
        return _found("warning", words, f"stands behind {flag.name}, which takes {rule.takes}, keep one")
    behind = [word.end for word in flag.values if word.start < stray[0].start]
    start = behind[-1] if behind else len(prompt[: stray[0].start].rstrip())
    cut = (start, stray[-1].end, "")
    moved = words.lstrip(_CLOSING).strip()
    if not re.search(r"\w", words):
        return _found("error", f"{flag.name} {words}", f"no punctuation here, leave out {words}", cut)
    glued = front and not prompt[front - 1].isspace()
    paste = (front, front, f" {moved}" if glued else f"{moved} ")
    advice = f"stands behind {flag.name} and is taken for its value, put all text before the first flag"
    return _found("error", words, advice, paste, cut)


def _judge_flag(
    prompt: str, flag: _Flag, rule: Rule, version: str | None, present: set[str]
) -> list[_Judged]:
    """Judge one flag: whether it can work at all, its values, what else is there, its version."""
    everything = f"{flag.name} {_cut(prompt, flag.values)}".rstrip()
    if rule.refused:
        return [_found("error", everything, rule.refused)]
    judged: list[_Judged] = []
    slip, value, edits = (
        flag.slip,
        flag.slip.value if flag.slip else "",
        [flag.slip.edit] if flag.slip else [],
    )
    needs_number: Level = "error" if rule.kind in ("number", "ratio") else "warning"
    if not flag.values and rule.kind != "none":
        judged.append(_found(needs_number, flag.name, f"the value is missing: {rule.takes}"))
    elif flag.values and rule.kind in _SHAPES and not _fits(rule, flag.values[0].text):
        judged.append(_found(needs_number, everything, f"takes {rule.takes}"))
    elif rule.kind in _SHAPES:
        for word in flag.values[: _count_own(flag)]:
            fault = _fault(rule, word.text, version, _WIDEST_HD if "--hd" in present else _WIDEST)
            if fault:
                level, advice, instead = fault
                repairs = [(word.start, word.end, instead), *_opened_by(prompt, word.text)] if instead else []
                if slip and instead and word is flag.values[0]:  # one finding, with one thing to write
                    value, edits = instead, edits + repairs
                    continue
                if instead:
                    advice += f", write --{flag.name.lstrip(_DASHES + _OPENING).lstrip()} {instead}"
                judged.append(_found(level, f"{flag.name} {word.text}", advice, *repairs))
    if slip:
        judged.insert(
            0, _found(slip.level, slip.words, f"{slip.reason}, write {slip.name} {value}".rstrip(), *edits)
        )
    words = " ".join([flag.name, *(word.text for word in flag.values[:1])])
    company = _company_advice(rule, flag.values, present)
    judged += [_found("warning", words, advice) for advice in company]
    on_its_own = filter(None, (_version_advice(rule, version), rule.doubt))
    judged += [_found("warning", flag.name, advice) for advice in on_its_own]
    return judged


def _opened_by(prompt: str, value: str) -> tuple[_Edit, ...]:
    """Return the edit that takes the quote off the front of a prompt whose last value has its twin."""
    for left, right in (*('""', "''", "``", "\u201c\u201d", "\u2018\u2019"), ("**", "**")):
        if prompt.startswith(left) and value.endswith(right):
            odd = prompt.count(left) % 2 if left == right else prompt.count(left) - prompt.count(right)
            return () if odd else ((0, len(left), ""),)
    return ()


def _company_advice(rule: Rule, values: list[_Word], present: set[str]) -> list[str]:
    """Advise on what else is in the prompt: what a flag needs, what it does not go with."""
    value = _bare(values[0].text) if values else ""
    met = [other for pair in rule.yields_to if (other := pair.removeprefix(f"{value} ")) in present]
    advice = [f"does not go with {other}, leave {rule.flag} out" for other in met]
    if rule.needs and rule.needs not in present:
        advice.append(f"needs {rule.needs}, add it or leave {rule.flag} out")
    return advice


def _version_advice(rule: Rule, version: str | None) -> str:
    if version is None or not rule.families or VERSIONS[version] in rule.families:
        return ""
    newest = next(name for name, family in VERSIONS.items() if family in rule.families)
    return (
        f"not documented for version {version}, likely refused as 'not compatible' or ignored; "
        f"use {newest if newest.startswith('niji') else f'--v {newest}'} or leave it out"
    )


def _version_asked(flags: list[_Flag]) -> str | None:
    """Return the version the prompt asks for; None if it is not one of `VERSIONS`, or two are asked for."""
    asked = [flag for flag in flags if flag.rule and flag.rule.kind == "version"]
    if not asked:
        return DEFAULT_VERSION
    version = _version(asked[0].rule, asked[0].values[0].text) if asked[0].values else None
    return version if version in VERSIONS and len(asked) == 1 else None


def _version(rule: Rule | None, text: str) -> str:
    number = _plain(_bare(text).lstrip("vV")).removesuffix(".0")
    return f"niji {number}" if rule and rule.flag == "--niji" else number


def _count_own(flag: _Flag) -> int:
    """Count the words behind a flag that are its value; the rest is text that went astray."""
    rule, values = flag.rule, flag.values
    if not rule or rule.kind == "text":
        return len(values)
    if rule.kind in _SHAPES and values and not _fits(rule, values[0].text):
        return len(values)
    if rule.kind in ("references", "urls", "codes"):
        return next((i for i, word in enumerate(values) if not _fits(rule, word.text)), len(values))
    return 0 if rule.kind == "none" else 1


def _stray(flag: _Flag) -> list[_Word]:
    return flag.values[_count_own(flag) :]


def _fault(rule: Rule, text: str, version: str | None, widest: int) -> tuple[Level, str, str] | None:
    """Find what is wrong with one value: the level, the reason, and what to write instead ("" if open)."""
    bare = _bare(text)
    match = re.fullmatch(_SHAPES[rule.kind], bare)
    assert match is not None, "only words that fit come here"
    fault: tuple[Level, str, str] | None = None
    plain = bare
    if rule.kind == "ratio":
        w, h = _plain(match[1]), _plain(match[2])
        fault, plain = _ratio_fault(rule, w, h, widest), f"{w}:{h}"
    elif rule.kind in ("number", "version"):
        plain = _plain(bare)
        if rule.kind == "number":
            fault = _number_fault(rule, plain, version)
        elif bare[0] in "vV":
            fault = "error", "the number alone", plain[1:]
    elif rule.kind == "choice" and bare != rule.values:
        fault = "warning", f"takes {rule.takes} only, leave it out", ""
    if fault and (fault[0] == "error" or plain == text):
        return fault
    if plain != text:
        reason = "no punctuation around a value" if plain == bare else f"takes {rule.takes}"
        return "warning" if "://" in bare else "error", reason, plain
    for advice in _url_advice(bare):
        return "warning", advice, ""
    if rule.kind == "version" and _version(rule, text) not in VERSIONS:
        known = f"known are {', '.join(VERSIONS)}; use one of these"
        if text in ("8", "8.0"):
            return "warning", f"8.0 was withdrawn in July 2026, {known}", ""
        return "warning", f"not a version known here and may be refused, {known}", ""
    return None


def _number_fault(rule: Rule, bare: str, version: str | None) -> tuple[Level, str, str] | None:
    number = float(bare)
    every: list[float] = []
    settled = True
    for clause in rule.values.split("; "):
        numbers, _, family = clause.partition(" on ")
        every += map(float, re.findall(_NUMBER, numbers))
        if not family or VERSIONS.get(version or "") == family:
            sure = [float(n) for n in re.findall(_NUMBER, numbers.partition(" (")[0])]
            whole = "." in clause or number.is_integer()
            settled = whole and sure[0] <= number <= sure[-1] if " to " in numbers else number in sure
    if not min(every) <= number <= max(every):
        # A version that is not known here may well take more.
        return "error" if version else "warning", f"takes {rule.takes}", ""
    if settled:
        return None
    whole_too = " in whole numbers" if "." in bare and "." not in rule.values else ""
    return "warning", f"takes {rule.takes}{whole_too}, another may be rounded or refused", ""


def _ratio_fault(rule: Rule, width: str, height: str, widest: int) -> tuple[Level, str, str] | None:
    w, h = float(width), float(height)
    if not w or not h:
        return "error", f"takes {rule.takes}", ""
    if "." in width + height:
        return "error", "whole numbers only", _whole_ratio(width, height)
    if not 1 / widest <= w / h <= widest:
        company = " with --hd" if widest == _WIDEST_HD else ""
        return "warning", f"1:{widest} to {widest}:1 is documented{company}, beyond may be refused", ""
    return None


def _whole_ratio(width: str, height: str) -> str:
    """Return the same ratio in the smallest whole numbers (1.5 and 1: 3:2), "" for absurdly long ones."""
    if len(width + height) > 20:
        return ""
    places = max(len(number.partition(".")[2]) for number in (width, height))
    w, h = (int(f"{n.partition('.')[0]}{n.partition('.')[2]:0<{places}}") for n in (width, height))
    divisor = gcd(w, h)
    return f"{w // divisor}:{h // divisor}"


def _url_advice(url: str) -> list[str]:
    if url.startswith("http://"):
        return ["Midjourney has to fetch it, give a public https URL"]
    if re.match(r"https?://(?:[\w-]+\.)?example\.(?:com|org|net)\b", url):
        return ["a placeholder host, give the URL of a real picture"]
    return []


def _plain(number: str) -> str:
    """Return a number in plain digits; prompts are written in all scripts."""
    return "".join(str(int(c)) if c.isdecimal() else c for c in number)


def _bare(value: str) -> str:
    """Strip the punctuation that prose or a stray quote left on a value; most of it may end a URL."""
    return value.rstrip(",;") if "://" in value else value.lstrip(_OPENING).rstrip(_CLOSING)


def _cut(prompt: str, words: list[_Word]) -> str:
    return prompt[words[0].start : words[-1].end] if words else ""
