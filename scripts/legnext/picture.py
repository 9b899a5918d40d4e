"""What the bytes of a picture file tell: its format, whether it is whole, and how large it is in pixels.

An origin that breaks off and declares the broken length looks complete to HTTP, so a picture is whole only
where its format's own end is there. Pure: bytes and sizes in, answers out.
"""

from __future__ import annotations

EXTENSIONS = ("png", "jpg", "webp", "gif", "avif")
HEAD = 12
"""How many bytes `extension` needs."""
TAIL = 12
"""How many bytes `is_whole` needs of the end."""

_PNG_END = b"IEND\xaeB`\x82"
# The JPEG markers that carry the size: start of frame, of any coding, but not DHT, JPG and DAC.
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def extension(head: bytes) -> str | None:
    """Return the extension for an image that begins with `head`, or None: not an image."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "avif" if head[4:12] == b"ftypavif" else None


def is_whole(head: bytes, tail: bytes, size: int) -> bool:
    """Say whether a file of `size` bytes with this beginning and end is an image that ends as one."""
    kind = extension(head)
    if kind == "png":
        return tail.endswith(_PNG_END)
    if kind == "jpg":
        return tail.endswith(b"\xff\xd9")
    if kind == "gif":
        return tail.endswith(b";")
    if kind == "webp":
        declared = int.from_bytes(head[4:8], "little") + 8
        return size in (declared, declared + 1)  # an odd one may be padded
    return kind is not None


def pixels(start: bytes) -> tuple[int, int] | None:
    """Return (width, height) of an image that begins with `start`, None where that does not tell."""
    kind = extension(start)
    if kind == "png" and start[12:16] == b"IHDR":
        return _size(start[16:24], 4, "big")
    if kind == "gif":
        return _size(start[6:10], 2, "little")
    if kind == "webp":
        return _webp_pixels(start)
    return _jpeg_pixels(start) if kind == "jpg" else None


def _size(both: bytes, each: int, order: str) -> tuple[int, int] | None:
    width, height = (int.from_bytes(part, order) for part in (both[:each], both[each:]))  # type: ignore[arg-type]
    return (width, height) if len(both) == 2 * each and width and height else None


def _webp_pixels(start: bytes) -> tuple[int, int] | None:
    if start[12:16] == b"VP8X" and len(start) >= 30:
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if start[12:16] == b"VP8L" and len(start) >= 25:
        bits = int.from_bytes(start[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if start[12:16] == b"VP8 " and start[23:26] == b"\x9d\x01\x2a":
        size = _size(start[26:30], 2, "little")
        return size and (size[0] & 0x3FFF, size[1] & 0x3FFF)
    return None


def _jpeg_pixels(start: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(start) and start[at] == 0xFF:
        if start[at + 1] in _START_OF_FRAME:
            size = _size(start[at + 5 : at + 9], 2, "big")
            return size and (size[1], size[0])
        at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return None
