"""Media of every kind become pixels and samples; what is no such thing, or too much of it, is refused with words."""

from __future__ import annotations

import hashlib
import io
import resource
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from portico.errors import BadRequestError
from portico.events import Medium
from portico.media.decoding import KEPT, Decoder
from support.pictures import flac, hostile, mp3, picture, png, saved, wav
from support.seeing import COLOURS

PIXELS = 4_500_000


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(pixels=PIXELS, seconds=2, rate=16_000)
    yield decoder
    decoder.close()


def look(decoder: Decoder, kind: Literal["image", "audio"], data: bytes) -> Medium:
    found = decoder.decode(kind, data)
    if kind == "image":
        with Image.open(io.BytesIO(found.thumbnail), formats=["PNG"]) as small:
            assert max(small.size) <= 96
            assert len(found.thumbnail) < 64 << 10
    return found.medium


def at(medium: Medium, x: int, y: int) -> tuple[int, ...]:
    width, _ = medium.size
    return tuple(medium.data[3 * (y * width + x) :][:3])


def close(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 16


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_kind_of_image_is_seen(decoder: Decoder, kind: str) -> None:
    medium = look(decoder, "image", saved(picture("red", "blue"), kind))
    assert medium.size == (96, 96)
    assert len(medium.data) == 96 * 96 * 3
    assert close(at(medium, 10, 50), COLOURS["red"])
    assert close(at(medium, 86, 50), COLOURS["blue"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_camera_says(decoder: Decoder, orientation: int) -> None:
    """However it is stored, red is seen at the left."""
    stored = picture("red", "blue").crop((0, 0, 96, 48))
    how = Image.Transpose
    undone = {2: how.FLIP_LEFT_RIGHT, 3: how.ROTATE_180, 4: how.FLIP_TOP_BOTTOM, 5: how.TRANSPOSE}
    undone |= {6: how.ROTATE_90, 7: how.TRANSVERSE, 8: how.ROTATE_270}
    if orientation in undone:
        stored = stored.transpose(undone[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    medium = look(decoder, "image", saved(stored, "JPEG", exif=exif))
    assert medium.size == (96, 48)
    assert close(at(medium, 10, 24), COLOURS["red"])
    assert close(at(medium, 86, 24), COLOURS["blue"])


def test_what_is_transparent_is_white(decoder: Decoder) -> None:
    image = picture("green").convert("RGBA")
    image.paste((255, 0, 0, 0), (0, 0, 48, 96))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    palette.info["transparency"] = 0
    medium = look(decoder, "image", saved(image, "PNG"))
    assert at(medium, 10, 10) == (255, 255, 255)
    assert at(medium, 60, 10) == COLOURS["green"]
    assert at(look(decoder, "image", saved(palette, "GIF", transparency=0)), 1, 1) == (255, 255, 255)


def test_depths_and_inks_are_brought_to_three_bytes(decoder: Decoder) -> None:
    grey = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert at(look(decoder, "image", saved(grey, "PNG")), 4, 4) == (128, 128, 128)
    inks = look(decoder, "image", saved(picture("red").convert("CMYK"), "JPEG"))
    assert close(at(inks, 4, 4), COLOURS["red"])
    frames = saved(picture("red"), "GIF", save_all=True, append_images=[picture("blue")] * 3)
    assert close(at(look(decoder, "image", frames), 4, 4), COLOURS["red"])


def test_large_images_are_scaled_down_and_too_large_ones_refused(decoder: Decoder) -> None:
    side = 2100
    for kind in ("JPEG", "PNG"):
        medium = look(decoder, "image", saved(picture("red", "blue", side=side), kind))
        width, height = medium.size
        assert width * height <= KEPT < side * side
        assert close(at(medium, width // 4, height // 2), COLOURS["red"])
        assert close(at(medium, 3 * width // 4, height // 2), COLOURS["blue"])
    with pytest.raises(BadRequestError, match=r"2200 x 2200 pixels, more than 4,500,000; send a smaller one"):
        look(decoder, "image", png("red", side=2200))
    with pytest.raises(BadRequestError, match="too narrow"):
        look(decoder, "image", saved(Image.new("RGB", (2000, 2)), "PNG"))


def test_equal_media_have_equal_digests_and_others_do_not(decoder: Decoder) -> None:
    one, again, other = (look(decoder, "image", png(*colours)) for colours in (("red",), ("red",), ("blue",)))
    assert one == again
    assert one.digest != other.digest
    assert one.digest != hashlib.sha256(one.data).hexdigest()  # sizes count: 2 x 8 is not 8 x 2
    wide, high = (look(decoder, "image", saved(Image.new("RGB", size), "PNG")) for size in ((2, 8), (8, 2)))
    assert wide.data == high.data
    assert wide.digest != high.digest


def test_every_kind_of_sound_is_heard(decoder: Decoder) -> None:
    heard = look(decoder, "audio", wav(0.5))
    samples = np.frombuffer(heard.data, np.float32)
    assert heard.size[1] == 16_000
    assert abs(heard.size[0] - 8000) < 100
    assert 0.3 < samples.max() < 0.5
    for silence in (mp3(), flac()):
        heard = look(decoder, "audio", silence)
        assert heard.size[0] > 2000
        assert len(heard.data) == 4 * heard.size[0]
        assert np.abs(np.frombuffer(heard.data, np.float32)).max() < 0.01
    with pytest.raises(BadRequestError, match="longer than 2 seconds"):
        look(decoder, "audio", wav(3.0))
    with pytest.raises(BadRequestError, match="WAV, MP3 or FLAC"):
        look(decoder, "audio", png("red"))
    for damaged in (wav()[:30], wav(0), flac()[:40], mp3()[:3], b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(100)):
        with pytest.raises(BadRequestError):
            look(decoder, "audio", damaged)


def test_hostile_files_are_seen_or_refused_and_harm_nobody(decoder: Decoder) -> None:
    """No other outcome, and this process does not grow by what they would unfold to."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused, names = 0, []
    for name, data in hostile():
        names.append(name)
        try:
            medium = look(decoder, "image", data)
        except BadRequestError:
            refused += 1
            continue
        assert len(medium.data) == 3 * medium.size[0] * medium.size[1], name
        assert medium.size[0] * medium.size[1] <= KEPT, name
    assert len(names) >= 40
    assert refused >= 20
    assert close(at(look(decoder, "image", png("red")), 1, 1), COLOURS["red"])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 << 10, f"{grown} kB"
