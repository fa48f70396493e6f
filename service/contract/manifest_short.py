"""The short form of a manifest line: `{"image": "cat.png", "prompt": "What is this?"}`."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from service.contract.chat import ChatRequest
from service.contract.manifest_paths import locate
from service.errors import BadRequest

MEDIA_FIELDS = {
    "image": "image_url",
    "images": "image_url",
    "video": "video_url",
    "videos": "video_url",
    "audio": "audio_url",
    "audios": "audio_url",
}
# How media is looked at, and which kinds of part take it.
MEDIA_OPTIONS = {
    "fps": ("video_url",),
    "num_frames": ("video_url",),
    "max_pixels": ("image_url", "video_url"),
    "detail": ("image_url",),
    "start": ("video_url", "audio_url"),
    "end": ("video_url", "audio_url"),
}
WORD_FIELDS = ("prompt", "system")
ID_FIELDS = ("id", "custom_id")
REQUEST_FIELDS = frozenset(ChatRequest.model_fields) - {"messages", "stream", "stream_options"}
KNOWN_FIELDS = REQUEST_FIELDS | {*MEDIA_FIELDS, *MEDIA_OPTIONS, *WORD_FIELDS, *ID_FIELDS}


def chat_body(line: Mapping[str, Any], base_dir: str | None) -> dict[str, Any]:
    """The OpenAI chat body that a short line (with its defaults filled in) stands for."""
    for name in line.keys() - KNOWN_FIELDS:
        raise unknown_field(name)
    messages: list[dict[str, Any]] = []
    if system := _words(line, "system"):
        messages.append({"role": "system", "content": system})
    messages.append({"role": "user", "content": _content(line, base_dir)})
    body: dict[str, Any] = {"messages": messages}
    body.update((name, value) for name, value in line.items() if name in REQUEST_FIELDS)
    return body


def unknown_field(name: str, param: str | None = None) -> BadRequest:
    """A refusal that names the field, and the one that was probably meant."""
    close = difflib.get_close_matches(name[:64], KNOWN_FIELDS, n=1)
    return BadRequest(
        f"`{name[:64]}` is not a field of a manifest line.",
        param=param or name[:64],
        code="unknown_field",
        hint=f"Did you mean `{close[0]}`?"
        if close
        else "A line has media (image, video, audio) and a prompt.",
    )


def _content(line: Mapping[str, Any], base_dir: str | None) -> str | list[dict[str, Any]]:
    prompt = _words(line, "prompt")
    parts = list(_media_parts(line, base_dir))
    if prompt is None or not (prompt or parts):
        raise BadRequest(
            "The line has no `prompt`, and the batch gives none either.",
            param="prompt",
            code="missing_required_parameter",
            hint='Add "prompt" to the line, or give one for all lines when you submit.',
        )
    if not parts:
        return prompt
    return [*parts, {"type": "text", "text": prompt}] if prompt else parts


def _media_parts(line: Mapping[str, Any], base_dir: str | None) -> Iterator[dict[str, Any]]:
    for name in line:
        kind = MEDIA_FIELDS.get(name)
        if kind is None:
            continue
        options = {key: line[key] for key, kinds in MEDIA_OPTIONS.items() if key in line and kind in kinds}
        for path in _paths(line, name):
            yield {"type": kind, kind: {"url": locate(path, base_dir, name), **options}}


def _paths(line: Mapping[str, Any], name: str) -> list[str]:
    value = line[name]
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise BadRequest(f"`{name}` must be a path, a URL or a file id, or a list of them.", param=name)
    return paths


def _words(line: Mapping[str, Any], name: str) -> str | None:
    value = line.get(name)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"`{name}` must be text.", param=name)
    return value
