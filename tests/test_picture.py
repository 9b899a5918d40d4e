"""What the bytes of a picture tell, of every format and of anything else."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, features

from legnext.picture import HEAD, TAIL, extension, is_whole, pixels

SIZE = (37, 501)  # odd, uneven, and one more than fits a byte


def drawn(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(SIZE, 50).convert(mode).save(out, kind, **options)
    return out.getvalue()


PICTURES = {
    "png": drawn("PNG"),
    "jpg": drawn("JPEG"),
    "jpg, progressive": drawn("JPEG", progressive=True),
    # A profile is before the size, and a thumbnail in it has an end and a size of its own.
    "jpg, with a profile": drawn("JPEG", icc_profile=drawn("JPEG") * 3),
    "gif": drawn("GIF"),
    "webp, lossy": drawn("WEBP"),
    "webp, lossless": drawn("WEBP", lossless=True),
    "webp, with alpha": drawn("WEBP", mode="RGBA", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
}


def whole(picture: bytes) -> bool:
    return is_whole(picture[:HEAD], picture[-TAIL:], len(picture))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_tells_its_format_its_size_and_whether_it_is_whole(name: str) -> None:
    picture = PICTURES[name]
    assert extension(picture[:HEAD]) == name.partition(",")[0]
    assert pixels(picture) == SIZE
    assert whole(picture)
    for length in (len(picture) - 1, len(picture) // 2, len(picture) // 2 + 1, 20):
        assert not whole(picture[:length]), length


@pytest.mark.parametrize("name", PICTURES)
def test_a_beginning_that_does_not_reach_to_the_size_tells_none_or_the_right_one(name: str) -> None:
    for length in range(60):
        assert pixels(PICTURES[name][:length]) in (None, SIZE)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow makes no AVIF")
def test_avif_is_known_and_its_size_is_not() -> None:
    picture = drawn("AVIF")
    assert (extension(picture[:HEAD]), whole(picture), pixels(picture)) == ("avif", True, None)


ENDS = {
    "": (False, None),
    "GIF89a": (False, None),
    "<!doctype html>": (False, None),
    "RIFF\x00\x00\x00\x00WEBPVP8 ": (False, None),
}


@pytest.mark.parametrize("text", ENDS)
def test_what_is_no_picture_is_none(text: str) -> None:
    data = text.encode("latin-1")
    assert (whole(data), pixels(data)) == ENDS[text]


@given(st.sampled_from([b"", *(picture[:30] for picture in PICTURES.values())]), st.binary(max_size=64))
@example(b"\xff\xd8\xff", b"\xe0\x00\x00" * 20)  # a segment that says it has no length
def test_whatever_bytes_come_nothing_is_raised_and_a_size_is_one(start: bytes, rest: bytes) -> None:
    for data in (start + rest, start[: len(rest)] + rest):
        assert whole(data) in (True, False)
        size = pixels(data)
        assert size is None or (len(size) == 2 and min(size) > 0)


@pytest.mark.parametrize("name", [name for name in PICTURES if name.startswith(("png", "gif", "jpg"))])
def test_a_size_of_nothing_is_none(name: str) -> None:
    picture = PICTURES[name]
    order = "little" if name == "gif" else "big"
    each = 4 if name == "png" else 2
    sizes = SIZE if name in ("png", "gif") else SIZE[::-1]
    both = b"".join(number.to_bytes(each, order) for number in sizes)  # type: ignore[arg-type]
    assert pixels(picture.replace(both, bytes(2 * each))) is None
