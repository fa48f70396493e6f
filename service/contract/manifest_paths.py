"""Media paths in a manifest: relative ones start at the manifest's own folder."""

import posixpath
import re
from pathlib import PurePosixPath
from typing import Any

from service.contract.ids import is_file_id
from service.errors import BadRequest

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}:")
_URL_FIELDS = ("image_url", "video_url", "audio_url")


def locate(path: str, base_dir: str | None, param: str) -> str:
    """A URL or an uploaded file's id as it is; a path as `file:///…`, joined to `base_dir`.

    Which folders may be read is the media room's business, not ours.
    """
    if _HAS_SCHEME.match(path) or is_file_id(path):
        return path
    if not path or "\0" in path:
        raise BadRequest(f"`{param}` is not a path.", param=param)
    if base_dir is None and not path.startswith("/"):
        raise BadRequest(
            f"`{param}` is a relative path, and this batch has no folder that it could start at.",
            param=param,
            code="relative_path",
            hint="Submit the manifest from its folder, upload the file and give its id, or use a data: URI.",
        )
    return PurePosixPath(posixpath.join(base_dir or "/", path)).as_uri()


def locate_in_messages(messages: list[Any], base_dir: str) -> None:
    """Replace the relative media paths of OpenAI messages in place; what is malformed is left for the desk to name."""
    for i, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for j, part in enumerate(content):
                if isinstance(part, dict):
                    _locate_in_part(part, base_dir, f"messages[{i}].content[{j}]")


def _locate_in_part(part: dict[str, Any], base_dir: str, param: str) -> None:
    for name in _URL_FIELDS:
        place = part.get(name)
        if isinstance(place, str):
            part[name] = locate(place, base_dir, f"{param}.{name}")
        elif isinstance(place, dict) and isinstance(place.get("url"), str):
            place["url"] = locate(place["url"], base_dir, f"{param}.{name}.url")
