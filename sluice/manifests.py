"""A manifest made fit for a server elsewhere: every local file that it names is replaced by an uploaded one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from service.contract.manifest_paths import locate
from service.errors import BadRequest
from sluice.media_files import KINDS

SHORT_FIELDS = tuple(name for kind in KINDS for name in (kind, f"{kind}s"))
URL_FIELDS = tuple(f"{kind}_url" for kind in KINDS)

Replace = Callable[[Path], str]


def rewrite(manifest: BinaryIO, folder: Path, replace: Replace) -> Iterator[bytes]:
    """The manifest's lines with `replace(path)` in place of local files.

    A line that we cannot read, or whose files are missing, goes as it is: the server fails it by number and name.
    """
    for raw in manifest:
        yield _rewritten(raw, lambda url: _replaced(url, folder, replace))


def _rewritten(raw: bytes, swap: Callable[[str], str]) -> bytes:
    try:
        line = json.loads(raw)
        if not isinstance(line, dict):
            return raw
        _swap_in_short_line(line, swap)
        _swap_in_messages(line, swap)
        if isinstance(line.get("body"), dict):
            _swap_in_messages(line["body"], swap)
    except (ValueError, BadRequest):
        return raw
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _replaced(url: str, folder: Path, replace: Replace) -> str:
    where = locate(url, str(folder), "media")
    if not where.startswith("file:///"):
        return url
    path = Path(unquote(urlsplit(where).path))
    return replace(path) if path.is_file() else url


def _swap_in_short_line(line: dict[str, Any], swap: Callable[[str], str]) -> None:
    for name in SHORT_FIELDS:
        value = line.get(name)
        if isinstance(value, str):
            line[name] = swap(value)
        elif isinstance(value, list):
            line[name] = [swap(item) if isinstance(item, str) else item for item in value]


def _swap_in_messages(body: dict[str, Any], swap: Callable[[str], str]) -> None:
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            for name in URL_FIELDS:
                _swap_in_place(part, name, swap)


def _swap_in_place(part: Any, name: str, swap: Callable[[str], str]) -> None:
    place = part.get(name) if isinstance(part, dict) else None
    if isinstance(place, str):
        part[name] = swap(place)
    elif isinstance(place, dict) and isinstance(place.get("url"), str):
        place["url"] = swap(place["url"])
