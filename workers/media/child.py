"""A decoder child: takes one file after the other from its socket and gives pixels or samples back."""

import json
import os
import socket
from dataclasses import asdict
from typing import Any

import av.logging

from service.contract.media import MediaKind
from workers.media.confine import Confinement, allow_cpu, confine_child
from workers.media.images import decode_image
from workers.media.limits import MediaLimits
from workers.media.refusals import Refusal
from workers.media.sounds import decode_sound
from workers.media.videos import decode_video
from workers.media.wire import MAX_MESSAGE_BYTES, DecodeRequest, Output

DEV_NULL, STANDARD_ERROR = 1, 2
DECODE = {MediaKind.IMAGE: decode_image, MediaKind.VIDEO: decode_video, MediaKind.AUDIO: decode_sound}


def serve(parent: socket.socket, limits: MediaLimits, *, network: bool) -> None:
    """Decode until the parent lets go of its end of the socket."""
    av.logging.set_level(None)
    # Some C libraries print what they find in a file; a stranger's words do not belong in our log.
    os.dup2(DEV_NULL, STANDARD_ERROR)
    parent.send(_hello(confine_child(limits, network=network)))
    while True:
        message, fds, _, _ = socket.recv_fds(parent, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return
        allow_cpu(limits.decode_seconds)
        out = Output(limits.max_decoded_bytes)
        reply = _decode(fds[0], DecodeRequest.from_bytes(message), limits, out)
        socket.send_fds(parent, [json.dumps(reply).encode()], [out.fd])
        out.close()


def _hello(confinement: Confinement) -> bytes:
    return json.dumps(asdict(confinement)).encode()


def _decode(fd: int, request: DecodeRequest, limits: MediaLimits, out: Output) -> dict[str, Any]:
    try:
        with os.fdopen(fd, "rb", buffering=0) as source:
            return DECODE[request.kind](source, request, limits, out)
    except Refusal as refusal:
        return {"refused": refusal.code, "facts": refusal.facts}
    except MemoryError:
        return {"refused": "media_decode_memory", "facts": {}}
    except Exception:
        # Broken files raise nearly every exception there is; none of their texts may leave this process.
        return {"refused": "media_undecodable", "facts": {}}
