"""Conversations that every family gets, as far as it takes their media."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from service.contract.media import MediaKind
from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.model.prompting.chat_format import Message

Request = tuple[list[Message], list[Decoded]]

KINDS = {DecodedImage: "image", DecodedVideo: "video", DecodedAudio: "audio"}


def picture(height: int = 60, width: int = 90, seed: int = 0) -> DecodedImage:
    """Blocks of colours, which stay apart when the picture is made small; always the same for a seed."""
    return DecodedImage(_blocks(seed, height, width), (width, height))


def clip(num_frames: int = 4, height: int = 56, width: int = 84, seed: int = 10) -> DecodedVideo:
    """Every fifth frame of a clip of 10 frames a second."""
    frames = np.stack([_blocks(seed + number, height, width) for number in range(num_frames)])
    total = 5 * num_frames
    return DecodedVideo(frames, tuple(range(0, total, 5)), 10.0, total, total / 10)


def _blocks(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    enlarged = np.kron(colours, np.ones((-(-height // 4), -(-width // 4), 1), np.uint8))
    return np.ascontiguousarray(enlarged[:height, :width])


def sound(seconds: float = 0.5, rate: int = 16_000, hertz: float = 440.0) -> DecodedAudio:
    """A steady tone."""
    times = np.arange(int(rate * seconds)) / rate
    return DecodedAudio((0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), rate, seconds)


def ask(*content: str | Decoded) -> Request:
    """One user message of texts and media, in their order."""
    parts: list[Message] = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": KINDS[type(part)]}
        for part in content
    ]
    return [{"role": "user", "content": parts}], [part for part in content if not isinstance(part, str)]


def going_on(first: Request, answer: str, then: Request) -> Request:
    """A conversation in which the first message was answered."""
    reply: Message = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
    return [*first[0], reply, *then[0]], [*first[1], *then[1]]


def conversations(
    takes: Collection[MediaKind], audio_rate: int = 16_000, *, mixes: bool = True
) -> dict[str, Request]:
    """Text alone, one medium of each kind, two pictures of different sizes, and longer talk about all of them.

    mixes: whether one conversation may hold media of several kinds.
    """
    media: dict[MediaKind, Decoded] = {
        MediaKind.IMAGE: picture(),
        MediaKind.VIDEO: clip(),
        MediaKind.AUDIO: sound(rate=audio_rate),
    }
    requests = {"text": ask("Hello there")}
    requests |= {f"one {kind}": ask(media[kind], "What is it?") for kind in MediaKind if kind in takes}
    if MediaKind.IMAGE in takes:
        requests["two images"] = ask("First", picture(84, 56, seed=2), "and then", picture(40, 120), "?")
        requests["image and talk"] = going_on(ask(picture(), "Who?"), "A cat.", ask("Sure?"))
    if MediaKind.VIDEO in takes:
        requests["two videos"] = ask(clip(2), clip(4, 84, 56), "Which is longer?")
    if MediaKind.AUDIO in takes:
        louder = sound(0.7, audio_rate, 880.0)
        requests["audio and talk"] = going_on(
            ask(media[MediaKind.AUDIO], "Hear?"), "Yes.", ask(louder, "And this?")
        )
    if len(takes) > 1 and mixes:
        every = [media[kind] for kind in sorted(takes)]
        requests["every kind"] = going_on(ask(*every, "What are they?"), "Many.", ask(every[-1], "And it?"))
    return requests
