"""Pictures and sounds made for tests: good ones of every kind, and hostile ones by name."""

from __future__ import annotations

import base64
import io
import math
import struct
import wave
import zlib
from collections.abc import Iterable, Iterator

from PIL import Image

from support.seeing import COLOURS, RATE, TONES

__all__ = ["flac", "hostile", "mp3", "picture", "png", "saved", "sound", "url", "wav"]

SIDE = 96  # pixels; the constructed projector sees 12 x 12 patches of it


def picture(*colours: str, side: int = SIDE) -> Image.Image:
    """Columns of these colours, equally wide."""
    image = Image.new("RGB", (side, side))
    width = side // len(colours)
    for n, colour in enumerate(colours):
        image.paste(COLOURS[colour], (n * width, 0, (n + 1) * width, side))
    return image


def saved(image: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def png(*colours: str, side: int = SIDE) -> bytes:
    return saved(picture(*colours, side=side), "PNG")


def url(*colours: str) -> str:
    """A data: URL."""
    return f"data:image/png;base64,{base64.b64encode(png(*colours)).decode()}"


# -- sounds ------------------------------------------------------------------------------------------------------------


def sound(*colours: str) -> bytes:
    """The tones of these colours, a fifth of a second each."""
    count = RATE // 5
    tones = (int(9000 * math.sin(2 * math.pi * TONES[c] * n / RATE)) for c in colours for n in range(count))
    return _wav(tones, RATE)


def wav(seconds: float = 0.1, rate: int = 8000) -> bytes:
    """A tone in one channel of 16 bits."""
    return _wav((int(12000 * math.sin(n / 5)) for n in range(int(seconds * rate))), rate)


def _wav(samples: Iterable[int], rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return buffer.getvalue()


def mp3(frames: int = 8) -> bytes:
    """Silence: frames of MPEG 1 layer III, 128 kbit/s at 44.1 kHz, whose side information is all zero."""
    return (b"\xff\xfb\x90\xc4" + bytes(413)) * frames


def flac(blocks: int = 2) -> bytes:
    """Silence: blocks of 4096 samples at 16 kHz in one channel of 16 bits, each one constant."""
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + ((16000 << 44) | (15 << 36) | (4096 * blocks)).to_bytes(8, "big")
    head = b"fLaC" + b"\x80" + (34).to_bytes(3, "big") + info + bytes(16)
    frames = b""
    for number in range(blocks):
        frame = bytes([0xFF, 0xF8, 0xC5, 0x08, number])
        frame += bytes([_crc(frame, 8, 0x07)]) + b"\0\0\0"  # a constant subframe of value 0
        frames += frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")
    return head + frames


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    value = 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
    return value


# -- hostile files -----------------------------------------------------------------------------------------------------


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _made_png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, more: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = more + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + body


def hostile() -> Iterator[tuple[str, bytes]]:
    """Files that mean harm, or look like it: each is seen, or refused with 400."""
    good = {kind: saved(picture("red", "green"), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")}
    for kind, data in good.items():
        yield f"{kind} cut in its head", data[:20]
        yield f"{kind} cut in half", data[: len(data) // 2]
        yield f"{kind} with its middle turned around", data[: len(data) // 2] + data[len(data) // 2 :][::-1]
        yield f"{kind} followed by a program", data + b"\x7fELF" + bytes(4096)
        yield f"{kind} of nothing but its sign", data[:12] + bytes(4096)
    huge = 20_000
    yield "a PNG of 400 megapixels in 400 kB", _made_png(huge, huge, bytes(3 * huge + 1) * 64)
    yield "a PNG that says 4 gigapixels", _made_png(65_000, 65_000, bytes(10))
    yield "a PNG that says 2^31 pixels a side", _made_png(2**31 - 1, 2**31 - 1, bytes(10))
    yield "a PNG of no pixels", _made_png(0, 0, b"")
    yield "a PNG of one row", _made_png(900_000, 1, bytes(2_700_001))
    yield "a PNG with less than its head says", _made_png(500, 500, bytes(1501))
    yield "a PNG with far more than its head says", _made_png(2, 2, bytes(30_000_000))
    yield "a PNG with a text of 64 MB", _made_png(2, 2, bytes(14), more=_chunk(b"zTXt", _bomb()))
    yield "a PNG with a profile of 64 MB", _made_png(2, 2, bytes(14), more=_chunk(b"iCCP", _bomb()))
    yield "a PNG of 16 bits", _made_png(64, 64, (b"\0" + b"\xff\xff\0\0\0\0" * 64) * 64, depth=16)
    yield "a JPEG of four inks", saved(picture("red").convert("CMYK"), "JPEG")
    yield "a GIF of 500 frames", saved(picture("red"), "GIF", save_all=True, append_images=[picture("blue")] * 500)
    yield "a GIF that says 65535 pixels a side", b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff;"
    yield "a WebP that moves", saved(picture("red"), "WEBP", save_all=True, append_images=[picture("blue")] * 20)
    yield "an SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "an SVG behind a PNG's sign", b"\x89PNG\r\n\x1a\n<svg/>"
    yield "a TIFF", saved(picture("red"), "TIFF")
    yield "an icon", saved(picture("red", side=32), "ICO")
    yield "a PostScript program", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n{} loop\n"
    yield "a page of HTML", b"<html><script>alert(1)</script></html>"
    yield "zeros", bytes(100_000)
    yield "text", b"a picture of a cat"
    yield "a WAV called an image", wav()


def _bomb() -> bytes:
    return b"x\0\0" + zlib.compress(bytes(64 << 20), 9)
