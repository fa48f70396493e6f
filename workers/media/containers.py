"""Opening videos and sounds with PyAV, so that FFmpeg reads the given bytes and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError

from service.contract.media import MediaKind
from workers.media.limits import MediaLimits
from workers.media.refusals import Refusal

# A playlist, an SDP or a concat file makes FFmpeg open what it names. Formats that hold only their own bytes:
FORMATS = {
    MediaKind.VIDEO: "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,avi,gif",
    MediaKind.AUDIO: "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,avi,mp3,wav,flac,ogg,aac",
}


@contextmanager
def opened(source: BinaryIO, kind: MediaKind, limits: MediaLimits) -> Iterator[InputContainer]:
    """The container in `source`, read from its start."""
    source.seek(0)
    options = {
        "protocol_whitelist": "none",
        "format_whitelist": FORMATS[kind],
        "max_pixels": str(limits.max_frame_pixels),
        # Else FFmpeg looks through 2,500 packets of each wav for a codec in disguise, at 2 ms a file.
        "max_probe_packets": "8",
    }
    try:
        container = av.open(source, "r", options=options)
    except (FFmpegError, ValueError):
        raise Refusal("media_unrecognized") from None
    with container:
        if len(container.streams) > limits.max_streams:
            raise Refusal("media_too_many_streams", limit_streams=limits.max_streams)
        yield container
