"""The Midjourney parameters as data: one row of `PARAMETERS` for each.

Sources, read in November 2026: Midjourney's own pages (Version chart, Parameter List, the page of
each flag), Legnext's documentation, and what other clients recorded. If they disagree, `narrower`
or `doubt` lead to a warning. reference/midjourney-parameters.md has the same rows.
"""

from typing import NamedTuple

PICTURE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "gif", "avif")

Models = tuple[str, ...]
V8, V7, V6, NIJI7, NIJI6 = ("8.2", "8.1"), ("7",), ("6.1", "6"), ("niji 7",), ("niji 6",)
NOT_V8: Models = V7 + V6 + NIJI7 + NIJI6
MODELS: Models = V8 + NOT_V8
DEFAULT_MODEL = "7"  # Legnext's; Midjourney's own is 8.2 since July 2026

NORMAL_POINTS = 80  # the price of a job; 1000 points are 1 USD
NO_PRICE: dict[str, int] = {}  # not the normal one, and not documented

URL = r"https?://\S+"
NUMBER = r"[0-9]*\.?[0-9]+"
KINDS = {  # of values: the pattern of one, and the words for it
    "nothing": ("", "no value"),
    "number": (NUMBER, "a number"),
    "integer": ("[0-9]+", "a whole number"),
    "ratio": ("0*[1-9][0-9]*:0*[1-9][0-9]*", "W:H in whole numbers: 16:9, or 239:100 for 2.39:1"),
    "version": (NUMBER, "a version: --v 8.2, 8.1, 7, 6.1 or 6, --niji 7 or 6"),
    "style": ("raw", "raw"),
    "urls": (URL, "https URLs"),
    "references": (rf"{URL}|([0-9]+|random)(::{NUMBER})?", "https URLs, codes or random"),
    "codes": (rf"[A-Za-z0-9]{{5,}}(::{NUMBER})?", "codes of your own"),  # shorter: likely text
    "words": (r"\S+", "words"),
}


class Parameter(NamedTuple):
    """What is documented about one parameter."""

    name: str
    takes: str  # one of KINDS
    range: tuple[float, float] | None = None  # beyond it is an error
    aliases: tuple[str, ...] = ()  # other names, and flags with the same facts
    narrower: tuple[tuple[Models, float, float], ...] = ()  # ranges documented for some models
    models: Models = MODELS
    needs: str = ""  # without it, it does nothing
    excludes: tuple[str, ...] = ()  # a name, or "name v" for `--name v…`
    doubt: str = ""  # what else may go wrong
    doubted_on: Models = MODELS
    points: dict[str, int] | None = None  # the price by model; None: the normal one
    normal: str = ""  # the value that leaves the price at normal
    impossible: str = ""  # why one job cannot carry it


IMAGE_URL = "an image URL before the text"
BOARDS = ("profile m",)  # moodboards: their codes begin with m

# fmt: off
PARAMETERS = (
    Parameter("ar", "ratio", aliases=("aspect",)),
    Parameter("v", "version", aliases=("version",), excludes=("niji",)),
    Parameter("niji", "version"),
    Parameter("stylize", "number", (0, 1000), ("s",)),
    Parameter("chaos", "number", (0, 100), ("c",)),
    Parameter("weird", "number", (0, 3000), ("w",)),
    Parameter("exp", "number", (0, 100), models=V8 + V7),
    Parameter("quality", "number", (0.25, 4), ("q",), models=NOT_V8, points=NO_PRICE, normal="1",
        narrower=((V7, 1, 4), (V6, 0.5, 2))),
    Parameter("seed", "integer", (0, 4294967295)),
    Parameter("stop", "number", (10, 100), models=V6 + NIJI6),
    Parameter("tile", "nothing", excludes=("edit",)),
    Parameter("iw", "number", (0, 3), narrower=((NIJI7, 0, 2),), needs=IMAGE_URL),
    Parameter("sref", "references"),
    Parameter("sw", "number", (0, 1000), needs="--sref", excludes=BOARDS),
    Parameter("sv", "number", (1, 7), narrower=((MODELS, 1, 6),), needs="--sref", excludes=BOARDS),
    Parameter("oref", "urls", models=V7, points=NO_PRICE, excludes=("draft", "fast", "quality 4")),
    Parameter("ow", "number", (0, 1000), narrower=((MODELS, 1, 1000),), needs="--oref"),
    Parameter("edit", "urls", models=V8, points=NO_PRICE,
        doubt="Legnext may not pass it on: try one job before you send more"),
    Parameter("cref", "urls", models=V6 + NIJI6),
    Parameter("cw", "number", (0, 100), needs="--cref"),
    Parameter("no", "words", doubt="some report 'not compatible' on 8.1", doubted_on=("8.1",)),
    Parameter("raw", "nothing"),
    Parameter("style", "style"),
    Parameter("draft", "nothing", models=V8 + V7, points=NO_PRICE,
        doubt="makes 24 small pictures on 8.x, if Legnext accepts it there", doubted_on=V8),
    Parameter("hd", "nothing", models=V8, points={"8.2": 120}, excludes=("sd", "draft")),
    Parameter("sd", "nothing", models=V8),
    Parameter("fast", "nothing"),
    Parameter("turbo", "nothing", models=NOT_V8, points=dict.fromkeys(NOT_V8, 160),
        excludes=("fast", "relax")),
    Parameter("relax", "nothing", points=NO_PRICE, excludes=("fast",),
        doubt="Legnext may have no slow queue: leave it out"),
    Parameter("profile", "codes", aliases=("p",)),
    Parameter("stealth", "nothing", aliases=("public", "preview"),
        doubt="a setting of the service's own account: leave it out"),
    Parameter("repeat", "number", aliases=("r",), points=NO_PRICE,
        impossible="one job is one prompt: send a prompt for each"),
    Parameter("video", "words", aliases=("loop", "motion", "bs", "end"), points=NO_PRICE,
        impossible="this call makes no video: leave it out"),
)
# fmt: on

BY_NAME = {name: row for row in PARAMETERS for name in (row.name, *row.aliases)}
NOT_KNOWN = Parameter("", "words", points=NO_PRICE)
