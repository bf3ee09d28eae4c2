"""Media decoded in processes of their own: what decodes a stranger's file may be killed, and nothing else is lost.

Images are PNG, JPEG, WebP or GIF, told by their first bytes and not by what the sender calls them. Of one that moves
the first frame counts. They are turned as their EXIF data says, laid on white where they are transparent, and become
RGB of 8 bits; larger ones are scaled down to ``KEPT`` pixels, which is more than models look at. Sounds are WAV, MP3 or
FLAC, and become one channel of floats at the rate that the engine hears.

The size that an image's head names is checked before a pixel is decoded, a sound is counted as it is decoded, and the
system bounds the time and the memory of the process. Whatever fails is a ``BadRequestError`` that says what to send.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any, Final, Literal

import msgspec

from portico.child import Children, answer_questions
from portico.errors import BadRequestError
from portico.events import Medium

__all__ = ["KEPT", "Decoded", "Decoder"]

IMAGES: Final = ("PNG", "JPEG", "WEBP", "GIF")
SIGNS: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
KEPT: Final = 2048 * 2048  # pixels
LONGEST: Final = 8192  # pixels of a side that is kept
RATIO: Final = 100  # of an image's sides; what is longer is nothing that a model sees
HEARD: Final = 16_000  # samples a second, for engines that do not say
PROCESSES: Final = 2
CPU_SECONDS: Final = 10.0
SECONDS: Final = 20.0
MEMORY: Final = 1 << 30
AT_A_TIME: Final = 1 << 16  # samples
THUMBNAIL: Final = 96  # pixels of its longer side


class _Question(msgspec.Struct):
    """A medium as it came, and what it may be: ``most`` pixels or seconds."""

    kind: Literal["image", "audio"]
    data: bytes
    most: int
    rate: int


class Decoded(msgspec.Struct, array_like=True):
    """A medium, and of an image a small PNG for people."""

    medium: Medium
    thumbnail: bytes = b""


class Decoder:
    """Decodes media; ``pixels`` and ``seconds`` are the most that one may have, ``rate`` the engine's. ``decode``
    blocks; any thread may call it."""

    def __init__(self, *, pixels: int, seconds: int, rate: int = 0) -> None:
        self._most = {"image": pixels, "audio": seconds}
        self._rate = rate or HEARD
        self._children = Children(__name__, Decoded, seconds=SECONDS, count=PROCESSES)

    @property
    def pids(self) -> list[int]:
        """The processes now running."""
        return self._children.pids

    def room(self, kind: Literal["image", "audio"]) -> int:
        """The most bytes that a medium of this kind becomes."""
        return 3 * min(KEPT, self._most["image"]) if kind == "image" else 4 * self._rate * self._most["audio"]

    def decode(self, kind: Literal["image", "audio"], data: bytes) -> Decoded:
        """The medium in ``data``. Raises ``BadRequestError``, whose message completes 'it cannot be used:'."""
        found = self._children.ask(_Question(kind, data, self._most[kind], self._rate))
        if found is None:
            raise BadRequestError("it takes too much time or memory to decode")
        return found

    def close(self) -> None:
        """End the processes; the next medium would start others."""
        self._children.close()


# -- there ------------------------------------------------------------------------------------------------------------


def _work(question: _Question) -> Decoded:
    thumbnail = b""
    try:
        if question.kind == "image":
            data, size, thumbnail = _image(question.data, question.most)
        else:
            data, size = _sound(question.data, question.rate, question.most)
    except BadRequestError:
        raise
    except MemoryError:
        raise BadRequestError("it takes too much memory to decode") from None
    except Exception:  # decoders raise whatever a damaged file makes them stumble over
        raise BadRequestError("it is damaged, or not what its beginning says") from None
    named = hashlib.sha256(f"{question.kind} {size}".encode() + data).hexdigest()
    return Decoded(Medium(question.kind, data, size, named), thumbnail)


def _image(data: bytes, most: int) -> tuple[bytes, tuple[int, int], bytes]:
    from PIL import Image

    kind = next((name for sign, name in SIGNS.items() if data.startswith(sign)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WEBP"
    if kind is None:
        raise BadRequestError("it is not a PNG, JPEG, WebP or GIF image; send it as one of these")
    Image.MAX_IMAGE_PIXELS = None  # bounded here
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        width, height = image.size
        if width * height > most:
            raise BadRequestError(f"it has {width} x {height} pixels, more than {most:,}; send a smaller one")
        if max(width, height) > RATIO * min(width, height):
            raise BadRequestError(f"it is {width} x {height} pixels, too narrow to be seen; crop it")
        scale = min(1.0, (KEPT / (width * height)) ** 0.5, LONGEST / max(width, height))
        target = max(1, int(width * scale)), max(1, int(height * scale))
        if scale < 1:
            image.draft("RGB", target)
        image.load()
        seen = _opaque(image)
        if seen.size != target and scale < 1:
            seen = seen.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
        seen = _turned(seen, image)
        pixels, size, small = seen.tobytes(), seen.size, io.BytesIO()
        seen.thumbnail((THUMBNAIL, THUMBNAIL))
        seen.save(small, "PNG")
        return pixels, size, small.getvalue()


def _opaque(image: Any) -> Any:
    """The image in RGB, on white where nothing is."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which a plain conversion would cut off, not scale
        import numpy as np

        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image)
        image = white
    return image.convert("RGB")


def _turned(seen: Any, image: Any) -> Any:
    """``seen`` as the EXIF data of ``image`` has it, if that can be read."""
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # a damaged note on a good picture
        return seen
    how = Image.Transpose
    turns = [how.FLIP_LEFT_RIGHT, how.ROTATE_180, how.FLIP_TOP_BOTTOM]
    turns += [how.TRANSPOSE, how.ROTATE_270, how.TRANSVERSE, how.ROTATE_90]
    return seen.transpose(turns[orientation - 2]) if orientation in range(2, 9) else seen


def _sound(data: bytes, rate: int, most: int) -> tuple[bytes, tuple[int, int]]:
    import miniaudio
    import numpy as np

    wave = data[:4] == b"RIFF" and data[8:12] == b"WAVE"
    mp3 = data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")
    if not (wave or mp3 or data[:4] == b"fLaC"):
        raise BadRequestError("it is not a WAV, MP3 or FLAC file; send it as one of these")
    pieces, count = [], 0
    for piece in miniaudio.stream_memory(data, miniaudio.SampleFormat.FLOAT32, 1, rate, AT_A_TIME):
        pieces.append(np.frombuffer(piece, np.float32))
        count += len(pieces[-1])
        if count > most * rate:
            raise BadRequestError(f"it is longer than {most:,} seconds; send a shorter one")
    if not count:
        raise BadRequestError("there is no sound in it")
    samples = np.nan_to_num(np.concatenate(pieces), nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0)
    return samples.astype(np.float32).tobytes(), (count, rate)


if __name__ == "__main__":
    answer_questions(_work, _Question, cpu_seconds=CPU_SECONDS, memory=MEMORY)
