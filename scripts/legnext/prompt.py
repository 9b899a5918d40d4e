"""Check a Midjourney prompt, and price it, before it is sent. Pure functions, in linear time.

Only `clean` changes a prompt. An error is a mistake that would be billed as something else
(`—ar 16:9`), what one job cannot carry, a value that Midjourney's own pages plainly exclude, or a
picture that it cannot fetch. All else is a warning: to refuse a good prompt is the worst fault.
"""

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import urlsplit

from legnext import parameters as known


class Finding(NamedTuple):
    """What is wrong, to be shown as `words: advice`."""

    level: str  # error or warning
    words: str
    advice: str


class Flag(NamedTuple):
    """A flag and the words up to the next flag."""

    parameter: known.Parameter
    written: str  # as it is in the prompt: `—ar 16x9,`
    right: str  # as it should be: `--ar 16:9`
    value: str | None  # its first value as it should be; None: of another kind
    values: list[str]
    stray: list[str]  # words after its values
    maybe_text: bool  # `a man —no saint` may be text: nothing about it is an error


class Prompt(NamedTuple):
    """A prompt, split into its parts."""

    images: list[str]  # words before the text that name pictures
    text: str
    flags: list[Flag]
    references: list[str]  # the images, and the values of flags that take pictures
    present: Counter[str]  # flags, also with the start of the value: `quality 4`; IMAGE_URL
    model: str  # one of MODELS; "" if flags ask for another or for two


# Zero-width space, byte order mark, soft hyphen, direction marks; not the joiners of emoji.
ADDED_BY_EDITORS = re.compile("[\u200b\ufeff\u00ad\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> tuple[str, list[str]]:
    """Remove what hosts and editors add; return the prompt and warnings."""
    visible = ADDED_BY_EDITORS.sub("", text)
    warnings = ["invisible characters were removed"] if visible != text else []
    if "\\!" in visible:  # Claude Code's shell tool writes it (July 2026)
        visible = visible.replace("\\!", "!")
        warnings.append("a backslash before ! was removed")
    return visible.strip(), warnings


def why_impossible(text: str, longest: int) -> str:
    """Return why this cannot be a prompt, or ""."""
    if not 1 <= len(text) <= longest:
        return f"the prompt has {len(text)} characters; it must have 1 to {longest}"
    odd = re.search("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", text)
    return f"the prompt has a control character, U+{ord(odd[0]):04X}" if odd else ""


DASHES = r"\u2010-\u2015\u2212\u2500\u2796\u30fc\ufe58\ufe63\uff0d"  # seen in place of hyphens
JOINER = r"\\\u200c\u200d\u2060-\u2064\ufe0e\ufe0f"  # seen between them: Markdown's \, joiners
COLON = r"\\?[:\u2236\uff1axX\u00d7]"  # also seen in its place
LINK = rf"(?:{known.URL}|\b(?:data|blob|file):\S+)"
FLAG = re.compile(
    rf"""
      {LINK}  # skipped: `--` may be a part of it
    | (?P<apart> (?<!\S) [(\[{{"'`*\u201c\u2018]* )?  # None if glued to the word before it
      (?<![-{DASHES}{JOINER}]) (?=[{JOINER}]*[-{DASHES}])  # the beginning of a run of dashes
      (?P<dashes> [-{DASHES}{JOINER}]+ (?:\s[-{DASHES}])? ) (?P<gap> \s? )  # `—`, `- -`; `-- ar`
      (?P<name> [^\W\d_]+ (?:[-_][^\W\d_]+)* ) [\s=:{JOINER}]*
    """,
    re.VERBOSE,
)
# A value ends before the next flag and before glued text: `16:9--v 7`, `16:9,please`.
REST = rf"(?:(?!--|[{DASHES}]|[,;\uff0c\uff1b\u3002][^\W\d_])\S){{0,300}}"
VALUE = re.compile(rf"{LINK}|[\d.]{{1,9}}\s?{COLON}\s?{REST}|(?![-{DASHES}{JOINER}]){REST}|")
END_OR_FLAG = re.compile(rf"\s*(?:\Z|(?<=\s)[-{DASHES}]+(?:{'|'.join(known.BY_NAME)})\b)")
PICTURE_NAME = rf"(?!https?://).*\.(?:{'|'.join(known.PICTURE_SUFFIXES)})$"
IMAGE = re.compile(rf"(?i){LINK}|{PICTURE_NAME}")
QUOTES = "<>()\"'`*,;"


def read(text: str) -> Prompt:
    found: list[re.Match[str]] = []
    for match in FLAG.finditer(text):
        if match["name"] and is_flag(match, after_a_flag=bool(found)):
            found.append(match)
    starts = [*(match.start() for match in found), len(text)]
    flags = list(map(read_flag, found, starts[1:]))
    words = text[: starts[0]].split()
    images = list(takewhile(lambda word: IMAGE.match(word.strip(QUOTES)), words))
    references, present = [*images], Counter([known.IMAGE_URL] if images else [])
    for flag in flags:
        name = flag.parameter.name
        present.update((name, f"{name} {''.join(flag.values)[:1]}"))
        if flag.parameter.takes in ("urls", "references"):
            references += flag.values + flag.stray
    models = [find_model(flag) for flag in flags if flag.parameter.takes == "version"]
    models = models or [known.DEFAULT_MODEL]
    model = models[0] if len(models) == 1 else ""
    return Prompt(images, " ".join(words[len(images) :]), flags, references, present, model)


def is_flag(match: re.Match[str], *, after_a_flag: bool) -> bool:
    """Tell a misspelled flag from text: `USB-C 3.2`, `Atlas — v 2`, `a -raw- scan`.

    Two hyphens and a name always are a flag. Other dashes need the name of a parameter, a value
    that fits, and a place where flags stand.
    """
    parameter = known.BY_NAME.get(match["name"].lower())
    is_apart = match["apart"] is not None and not match["gap"]
    has_hyphens = match["dashes"] == "--"
    if parameter is None or (is_apart and has_hyphens):
        return is_apart and has_hyphens
    if match["dashes"] == "-" and match["apart"] is None and parameter.takes != "ratio":
        return False
    takes, value = parameter.takes, find_value(match)
    if takes == "words":  # anything would fit
        return is_apart and (after_a_flag or not parameter.impossible)
    if takes == "ratio":  # nothing in a text looks like `-ar 16:9`
        return re.match(rf"[\d.]+\s?{COLON}", value) is not None
    if spell(takes, value) is None or (takes == "codes" and not re.search(r"\d", value)):
        return False
    is_end = END_OR_FLAG.match(match.string, match.end() + len(value)) is not None
    is_last = is_end and match["name"].islower()
    if takes == "nothing":
        return (is_apart or has_hyphens) and (after_a_flag or is_last)
    return is_apart or has_hyphens or after_a_flag or (is_last and not match["gap"])


def find_value(match: re.Match[str]) -> str:
    return next(VALUE.finditer(match.string, match.end()))[0]


def read_flag(match: re.Match[str], end: int) -> Flag:
    """Find how a flag should be written, and which words up to `end` are its values."""
    text, start, typed = match.string, match.start(), find_value(match)
    end_of_value = match.end() + len(typed)
    parameter = known.BY_NAME.get(match["name"].lower(), known.NOT_KNOWN)
    takes, value = parameter.takes, spell(parameter.takes, typed)
    word_before = "" if match["apart"] is not None else text[max(0, start - 20) : start].split()[-1]
    written = right = word_before + text[start:end_of_value].strip()
    if value is not None and parameter is not known.NOT_KNOWN:
        right = f"{word_before} --{match['name'].lower()} {value}".strip()
    words = (typed if value is None else value).split() + text[end_of_value:end].split()
    if takes in ("references", "urls", "codes", "words"):
        # If even the first does not fit, its form is not known here: all are values.
        values = list(takewhile(lambda word: spell(takes, word) == word, words)) or words
    else:
        values = words[: 0 if takes == "nothing" else 1]
    maybe_text = takes in ("nothing", "words") and "--" not in written
    return Flag(parameter, written, right, value, values, words[len(values) :], maybe_text)


def spell(takes: str, value: str) -> str | None:
    """Return a value as it should be written, None if it is of another kind."""
    if takes == "words":
        return value
    # Without quotes, Markdown and punctuation around it, but with the point of `.5`.
    bare = re.sub(r"(?s)^[^\w.-]*(.*[^\W_])?.*$", r"\1", value)
    if "://" in value:
        bare = value.strip(QUOTES)
    if takes == "ratio":
        bare = re.sub(rf"\s?{COLON}\s?", ":", bare)
    elif takes == "version":
        bare = bare.lstrip("vV")
    elif takes == "nothing" and bare.lower() in ("true", "on", "1"):
        bare = ""
    return bare if re.fullmatch(known.KINDS[takes][0], bare) else None


def find_model(flag: Flag) -> str:
    model = " ".join([flag.parameter.name, *flag.values]).removeprefix("v ").removesuffix(".0")
    return model if model in known.MODELS else ""


PERMUTATIONS = r"\{[^{},]*,[^{}]*\}"
NO_UPLOAD = "no upload; ask for a public https link"
NOT_ONE_PROMPT = {
    PERMUTATIONS: "braces with a comma make several prompts: send one, in plain words",
    # With what hosts glue to the last line of a <<'EOF'.
    r"\n[ \t]*(?:PROMPTS?|EOF)(?:[\s;{}|&]|<\s*/dev/null)*\Z": "the end of a heredoc: leave it out",
    # Also a path with a blank in it.
    r"(?i)\A[\"']?(?:[a-z]:|~|\.\.?|/\w+)[/\\]\S*": NO_UPLOAD,
}
NO_PICTURE = "not part of the picture: leave it out"
ODD_TEXT = {
    r"(?i)^\W*/ ?imagine\b( prompt)?:?|^\W*(imagine )?prompt ?\d*:\W*": NO_PICTURE,
    r"^([-*•>]|\d+\.) ": NO_PICTURE,
    r"\{[^\w{},]*\w[^{},]*\}|\[[^\W\d][\w -]*\](?!\()": "a blank? write the words themselves",
    r"(?<!\S)\$\{?[A-Z_]{3,}\}?": "a shell variable? write the words themselves",
    r"&#?\w+;|%20|\\n": "is sent as it stands: write the character itself",
    r"(?i)negative prompt:": "write --no and the words, at the end",
    r"(?<!\S)--(?!\S)": "may be read as a flag without a name: write a comma",
}
PATH = re.compile(rf"(?i)(?:data|blob|file):|(?:~|\.{{0,2}})[/\\]\S|[a-z]:[/\\]|{PICTURE_NAME}")


def check_words(whole: str, prompt: Prompt) -> Iterator[Finding]:
    rules = (("error", NOT_ONE_PROMPT, whole), ("warning", ODD_TEXT, prompt.text))
    for level, table, text in rules:
        for pattern, advice in table.items():
            for match in re.finditer(pattern, text):
                yield Finding(level, match[0].strip(), advice)
    weights = re.search(r"(?<!\S)(?!http)\S*::", prompt.text)
    if weights and prompt.model not in ("", *known.V6, *known.NIJI6):
        yield Finding("warning", weights[0], "weights are documented for 6.1, 6 and niji 6 only")


def check_references(prompt: Prompt, *, local_api: bool) -> Iterator[Finding]:
    for number, word in enumerate(prompt.references):
        bare = re.sub(r"::[\d.]+$", "", word.strip(QUOTES))
        if is_private(bare):
            if not local_api:
                yield Finding("error", word, "a private host; ask for a public https link")
        elif PATH.match(bare):
            # `IMG_0042.jpg` before the text may be text: it makes a snapshot's look.
            maybe_text = number < len(prompt.images) and not re.search(r"[/\\:]", bare)
            yield Finding("warning" if maybe_text else "error", word, NO_UPLOAD)


def is_private(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host.endswith(("localhost", ".local", ".internal")) or not ip_address(host).is_global
    except ValueError:  # a name, not an address
        return False


def check_value(flag: Flag, prompt: Prompt) -> Iterator[Finding]:
    row, value, words, model = flag.parameter, flag.value, flag.right, prompt.model
    how = known.KINDS[row.takes][1] + (" from {} to {}".format(*row.range) if row.range else "")
    if value is None or (row.takes == "words" and not flag.values):
        is_plain = row.takes in ("number", "integer", "ratio")
        yield Finding("error" if is_plain else "warning", words, f"takes {how}")
    elif row.takes == "version" and not find_model(flag):
        yield Finding("warning", words, f"not a version known here, takes {how}")
    elif row.takes == "ratio":
        shorter, longer = sorted(map(int, value.split(":")))
        widest = 4 if "hd" in prompt.present else 14
        if longer > widest * shorter:
            yield Finding("warning", words, f"only 1:{widest} to {widest}:1 is documented")
    elif row.range:
        if not row.range[0] <= float(value) <= row.range[1]:  # a model not known here may take more
            yield Finding("error" if model else "warning", words, f"takes {how}")
        for models, lowest, highest in row.narrower:
            if model in models and not lowest <= float(value) <= highest:
                yield Finding("warning", words, f"takes {lowest} to {highest} on {model}")


def check_company(flag: Flag, prompt: Prompt) -> Iterator[Finding]:
    row, words, model = flag.parameter, flag.right, prompt.model
    if row.needs and row.needs.removeprefix("--") not in prompt.present:
        yield Finding("warning", words, f"does nothing without {row.needs}")
    if prompt.present[row.name] > 1 and row.name not in ("sref", "profile"):  # these are blended
        yield Finding("warning", f"--{row.name}", "repeated, and only one counts: keep one")
    for other in row.excludes:
        if other in prompt.present:
            yield Finding("warning", words, f"does not go with --{other}: leave one out")
    if model and model not in row.models:
        yield Finding("warning", words, f"documented for {', '.join(row.models)}; not for {model}")
    if row.doubt and model in row.doubted_on:
        yield Finding("warning", words, row.doubt)


def check_flag(flag: Flag, prompt: Prompt) -> Iterator[Finding]:
    row, right = flag.parameter, flag.right
    if row is known.NOT_KNOWN:
        yield Finding("warning", right.split()[0], "not known: check the spelling or leave it out")
    elif row.impossible:
        yield Finding("error", flag.written, row.impossible)
    else:
        if flag.written.split() != right.split():
            only_case = flag.written.lower() == right.lower()
            yield Finding("warning" if only_case else "error", flag.written, f"write {right}")
        yield from check_value(flag, prompt)
        if flag.stray:
            advice = f"follows {right} and is read as its value: put all text before the first flag"
            yield Finding("error", " ".join(flag.stray), advice)
        yield from check_company(flag, prompt)


def references(text: str) -> list[str]:
    return read(text).references


def check(text: str, *, local_api: bool = False) -> list[Finding]:
    """List what is wrong with a prompt. `local_api`: the API can open private URLs."""
    prompt = read(text)
    found = [*check_words(text, prompt), *check_references(prompt, local_api=local_api)]
    for flag in prompt.flags:
        faults = check_flag(flag, prompt)
        found += (f._replace(level="warning") for f in faults) if flag.maybe_text else faults
    return list(dict.fromkeys(each._replace(words=each.words[:100]) for each in found))


def price_points(text: str) -> int | None:
    """Return the price in points (1000 are 1 USD), None if it is not documented."""
    prompt = read(text)
    prices: set[int | None] = set()
    for flag in prompt.flags:
        row = flag.parameter
        if row.points is not None and flag.values != [row.normal]:
            prices.add(None if flag.maybe_text else row.points.get(prompt.model))
    if not prompt.model or re.search(PERMUTATIONS, text) or len(prices) > 1:
        return None
    return prices.pop() if prices else known.NORMAL_POINTS
