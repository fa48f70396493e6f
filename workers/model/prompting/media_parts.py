"""Media in a conversation: decoded arrays at their parts' places, in the form in which the processors take them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from service.contract.media import MediaKind, MediaNeeds
from service.errors import BadMedia, BadRequest
from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.model.prompting.chat_format import Message
from workers.model.prompting.processors import Processor

KIND_OF = {DecodedImage: MediaKind.IMAGE, DecodedVideo: MediaKind.VIDEO, DecodedAudio: MediaKind.AUDIO}
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# Less than this fills no window of some families' features.
_LEAST_SOUND_SECONDS = 0.05


def with_media(messages: Sequence[Message], media: Sequence[Decoded], needs: MediaNeeds) -> list[Message]:
    """The messages with an array in every medium's part, where the processors look for it."""
    remaining = iter(media)
    conversation = [
        _message_with_media(message, remaining, needs, f"messages[{number}]")
        for number, message in enumerate(messages)
    ]
    if not conversation:
        raise BadRequest("The conversation is empty.", param="messages")
    if next(remaining, None) is not None:
        raise BadRequest("More media were given than the messages have parts for.", param="messages")
    return conversation


def _message_with_media(message: Message, media: Iterator[Decoded], needs: MediaNeeds, where: str) -> Message:
    if message.get("role") not in _ROLES:
        raise BadRequest(f"A role must be one of {', '.join(sorted(_ROLES))}.", param=f"{where}.role")
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [
        part if part.get("type") == "text" else _media_part(part, media, needs, f"{where}.content[{number}]")
        for number, part in enumerate(content)
    ]
    return {**message, "content": parts}


def _media_part(part: Mapping[str, Any], media: Iterator[Decoded], needs: MediaNeeds, where: str) -> Message:
    medium = next(media, None)
    if medium is None or KIND_OF[type(medium)] != part.get("type"):
        raise BadRequest(f"The part of type '{part.get('type')}' has no medium of that type.", param=where)
    kind = KIND_OF[type(medium)]
    if kind not in needs.takes:
        takes = " and ".join(sorted(needs.takes)) or "only text"
        raise BadRequest(
            f"This model cannot take {kind}: it takes {takes}.", param=where, code="unsupported_modality"
        )
    return {"type": kind.value, kind.value: _array(medium, needs, where)}


def _array(medium: Decoded, needs: MediaNeeds, where: str) -> Any:
    match medium:
        case DecodedImage():
            # As arrays they would leave it to the processors to guess which axis is colour, and not all take them.
            return Image.fromarray(medium.pixels)
        case DecodedVideo():
            return _writable(medium.frames)
        case DecodedAudio():
            if medium.rate != needs.audio_rate:
                raise BadMedia(f"The sound must come at {needs.audio_rate} Hz.", param=where)
            if len(medium.samples) < _LEAST_SOUND_SECONDS * medium.rate:
                raise BadMedia(f"A sound must last at least {_LEAST_SOUND_SECONDS} seconds.", param=where)
            return _writable(medium.samples)


def named_arrays(medium: Decoded) -> Iterator[tuple[str, np.ndarray]]:
    """All that a processor gets to see of one medium."""
    match medium:
        case DecodedImage():
            yield "image", medium.pixels
            if medium.max_pixels is not None:
                yield "max_pixels", np.array([medium.max_pixels])
        case DecodedVideo():
            yield "video", medium.frames
            yield "times", np.array([medium.fps, medium.total_frames, medium.seconds, *medium.frame_indices])
        case DecodedAudio():
            yield "audio", medium.samples
            yield "rate", np.array([medium.rate])


def _writable(array: np.ndarray) -> np.ndarray:
    """Decoded media may lie in memory that is shared read-only, which torch warns about and must not write to."""
    return np.require(array, requirements="W")


def shown_long_enough(media: Sequence[Decoded], processor: Processor) -> list[Decoded]:
    """The media, a clip of one frame shown twice to a family that looks at frames in pairs."""
    clips = getattr(processor, "video_processor", None)
    pairs = (getattr(clips, "temporal_patch_size", None) or 1) > 1
    return [
        _twice(medium) if pairs and isinstance(medium, DecodedVideo) and len(medium.frames) == 1 else medium
        for medium in media
    ]


def _twice(still: DecodedVideo) -> DecodedVideo:
    return replace(still, frames=np.repeat(still.frames, 2, axis=0), frame_indices=still.frame_indices * 2)


def video_options(media: Sequence[Decoded]) -> dict[str, Any]:
    """The decoders have chosen the frames already; the processor learns which they were."""
    videos = [
        VideoMetadata(
            total_num_frames=video.total_frames,
            fps=video.fps,
            duration=video.seconds,
            frames_indices=list(video.frame_indices),
        )
        for video in media
        if isinstance(video, DecodedVideo)
    ]
    return {"do_sample_frames": False, "video_metadata": videos} if videos else {}


def seconds_per_grid(
    processor: Processor, features: Mapping[str, Any], media: Sequence[Decoded]
) -> dict[str, torch.Tensor]:
    """What each step of a video's grid takes: omni processors believe in a constant, whatever the frames' times."""
    if "video_second_per_grid" not in features:
        return {}
    frames_per_step = processor.video_processor.temporal_patch_size
    videos = [medium for medium in media if isinstance(medium, DecodedVideo)]
    seconds_per_frame = [video.total_frames / video.fps / len(video.frame_indices) for video in videos]
    return {"video_second_per_grid": frames_per_step * torch.tensor(seconds_per_frame)}
