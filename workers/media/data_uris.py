"""data: URIs: strict base64 with a media type, no larger than the limit."""

import binascii

from service.contract.media import MediaKind
from workers.media.limits import MIB
from workers.media.refusals import Refusal

# The types that a part of each kind may carry: a sound may be that of a video, a moving picture may be a GIF.
TYPES = {
    MediaKind.IMAGE: ("image/",),
    MediaKind.VIDEO: ("video/", "image/gif"),
    MediaKind.AUDIO: ("audio/", "video/"),
}
MEDIA_TYPES = ("image/", "video/", "audio/")
MAX_HEADER = 200


def parse_data_uri(uri: str, kind: MediaKind, max_bytes: int) -> bytes:
    """The bytes of `data:<type>/<subtype>[;…];base64,…`."""
    header, comma, encoded = uri[: MAX_HEADER + 1].partition(",")
    words = header.lower().split(";")
    if not comma or words[-1] != "base64" or not words[0].startswith(tuple("data:" + t for t in MEDIA_TYPES)):
        raise Refusal("media_data_uri_invalid")
    if not words[0].removeprefix("data:").startswith(TYPES[kind]):
        raise Refusal("media_wrong_kind")
    encoded = uri[len(header) + 1 :]
    if len(encoded) // 4 * 3 > max_bytes + 2:
        raise Refusal("media_too_many_bytes", limit_mib=max_bytes / MIB)
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise Refusal("media_data_uri_invalid") from None
