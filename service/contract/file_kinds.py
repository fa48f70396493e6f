"""What kind of medium a file is, by its name or by its first bytes."""

from service.contract.media import MediaKind

# So many bytes tell every kind that we know.
HEAD_BYTES = 512
KINDS_BY_SUFFIX = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"), MediaKind.IMAGE),
    **dict.fromkeys(("mp4", "mov", "mkv", "webm", "avi", "m4v", "ts"), MediaKind.VIDEO),
    **dict.fromkeys(("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"), MediaKind.AUDIO),
}
_BEGINNINGS = {
    b"\xff\xd8\xff": MediaKind.IMAGE,
    b"\x89PNG\r\n\x1a\n": MediaKind.IMAGE,
    b"GIF8": MediaKind.IMAGE,
    b"BM": MediaKind.IMAGE,
    b"II*\0": MediaKind.IMAGE,
    b"MM\0*": MediaKind.IMAGE,
    b"\x1aE\xdf\xa3": MediaKind.VIDEO,
    b"fLaC": MediaKind.AUDIO,
    b"OggS": MediaKind.AUDIO,
    b"ID3": MediaKind.AUDIO,
}
_RIFF_KINDS = {b"WEBP": MediaKind.IMAGE, b"AVI ": MediaKind.VIDEO, b"WAVE": MediaKind.AUDIO}
_TS_PACKET_BYTES = 188


def kind_of_name(name: str | None) -> MediaKind | None:
    """The kind that a file's ending promises."""
    return KINDS_BY_SUFFIX.get((name or "").rpartition(".")[2].lower())


def kind_of_bytes(head: bytes) -> MediaKind | None:
    """The kind that a file's first bytes show. head: HEAD_BYTES of them, or the whole file."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF":
        return _RIFF_KINDS.get(head[8:12])
    if head[4:8] == b"ftyp":
        return MediaKind.AUDIO if head[8:11] in (b"M4A", b"M4B") else MediaKind.VIDEO
    if head[:1] == b"G" and head[_TS_PACKET_BYTES : _TS_PACKET_BYTES + 1] == b"G":
        return MediaKind.VIDEO
    # MPEG audio, with or without a layer's checksum, and AAC: eleven set bits.
    return MediaKind.AUDIO if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0 else None
