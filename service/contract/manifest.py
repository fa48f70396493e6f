"""A manifest's lines: OpenAI batch lines, bare request bodies, or our short form, which becomes a chat body.

Only the shape is checked here, fast; the desk reads the whole request and its errors name the field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from service.contract.chat import read_chat_request
from service.contract.endpoints import CHAT, RESPONSES
from service.contract.manifest_lines import BOM
from service.contract.manifest_paths import locate_in_messages
from service.contract.manifest_responses import response_line_body
from service.contract.manifest_short import (
    MEDIA_OPTIONS,
    REQUEST_FIELDS,
    WORD_FIELDS,
    chat_body,
    unknown_field,
)
from service.errors import BadRequest

DEFAULT_MODEL = "default"
MAX_ID_CHARACTERS = 512


class ManifestLine(NamedTuple):
    """A line that may become a job. body: a request of its batch's endpoint as JSON. model: as the line names it.

    custom_id: None for a short line that gives none; it then goes by its number.
    """

    line_no: int
    custom_id: str | None
    model: str
    body: bytes


class LineError(NamedTuple):
    """A line that becomes a failed job. custom_id: the line's own, if it could be read."""

    line_no: int
    custom_id: str | None
    error: BadRequest


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a submission says for all lines; a line's own fields win.

    fields: request fields (model, max_tokens, …). short: what only short lines take (prompt, system, fps, …).
    base_dir: the folder, on the workers' machine, at which relative paths start. endpoint: whose requests they are.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    short: Mapping[str, Any] = field(default_factory=dict)
    base_dir: str | None = None
    endpoint: str = CHAT

    @classmethod
    def from_dict(
        cls, raw: Mapping[str, Any], base_dir: str | None = None, endpoint: str = CHAT
    ) -> "Defaults":
        """Read and check a submission's `defaults`."""
        fields = {name: value for name, value in raw.items() if name in REQUEST_FIELDS}
        short = {name: value for name, value in raw.items() if name in MEDIA_OPTIONS or name in WORD_FIELDS}
        for name in raw.keys() - fields.keys() - short.keys():
            raise unknown_field(name, param=f"defaults.{name[:64]}")
        trial = {"prompt": "x", **short, **fields, "image": "/x", "video": "/x"}
        try:
            read_chat_request(chat_body(trial, base_dir))
        except BadRequest as error:
            raise BadRequest(error.message, param="defaults", code=error.code, hint=error.hint) from None
        return cls(fields, short, base_dir, endpoint)


def parse_line(raw: bytes, line_no: int, defaults: Defaults) -> ManifestLine | LineError:
    """Read one line of a manifest."""
    custom_id = None
    try:
        line = _loaded(raw)
        custom_id = _custom_id(line)
        body = _body(line, defaults)
        return ManifestLine(line_no, custom_id, body["model"], _dumped(body))
    except BadRequest as error:
        return LineError(line_no, custom_id, error)


def body_of(raw: bytes, line_no: int, defaults: Defaults) -> bytes:
    """The request of a line that was accepted before and stayed in its manifest."""
    line = parse_line(raw, line_no, defaults)
    if isinstance(line, LineError):
        raise line.error
    return line.body


def too_long(line_no: int, length: int, max_line_bytes: int) -> LineError:
    """The error of a line that we refuse to read."""
    return LineError(
        line_no,
        None,
        BadRequest(
            f"The line has {length} bytes; {max_line_bytes} are allowed.",
            code="line_too_long",
            hint="Upload large media as files and give their ids, or put them under an allowed folder.",
        ),
    )


def _loaded(raw: bytes) -> dict[str, Any]:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        if not raw.startswith(BOM):
            raise _not_json(raw) from None
        return _loaded(raw[len(BOM) :])
    if type(line) is not dict:
        raise BadRequest(
            "The line is not a JSON object.",
            code="invalid_json",
            hint='For example {"image": "cat.png", "prompt": "What is this?"}.',
        )
    return line


def _dumped(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        # orjson reads deeper towers of brackets than it writes.
        raise BadRequest("The line's JSON is nested too deep.", code="invalid_json") from None


def _not_json(raw: bytes) -> BadRequest:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return BadRequest(
            f"The line is not UTF-8: byte {error.start + 1} does not belong.",
            code="invalid_encoding",
            hint="Save the manifest as UTF-8.",
        )
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return BadRequest(
            f"The line is not valid JSON: reading stopped at column {error.colno}.",
            code="invalid_json",
            hint="Each line must be one whole JSON object, without a comma at its end.",
        )
    raise AssertionError("called only for lines that do not parse")


def _custom_id(line: dict[str, Any]) -> str | None:
    name = "custom_id" if "custom_id" in line or "body" in line or "url" in line else "id"
    custom_id = line.get(name)
    if type(custom_id) is str:
        if 0 < len(custom_id) <= MAX_ID_CHARACTERS and "\0" not in custom_id:
            return custom_id
    elif name == "id":
        if custom_id is None:
            return None
        if type(custom_id) is int:
            return str(custom_id)
    elif custom_id is None:
        raise BadRequest(
            "The line has no `custom_id`.",
            param="custom_id",
            code="missing_required_parameter",
            hint="Give every line an id of its own, so that you can find its answer.",
        )
    raise BadRequest(f"`{name}` must be text of 1 to {MAX_ID_CHARACTERS} characters.", param=name)


def _body(line: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    if "body" in line or "url" in line:
        # A preflight's lines are those of the chats that it looks at.
        body = _unwrapped(line, RESPONSES if defaults.endpoint == RESPONSES else CHAT)
        prefix = "body."
    elif "messages" in line or defaults.endpoint == RESPONSES:
        body = {name: value for name, value in line.items() if name not in ("id", "custom_id")}
        prefix = ""
    else:
        return _with_model(chat_body({**defaults.short, **_filled(line, defaults)}, defaults.base_dir), "")
    if defaults.endpoint == RESPONSES:
        return _with_model(response_line_body(body, defaults.fields, defaults.base_dir, prefix), prefix)
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        raise BadRequest(
            f"`{prefix}messages` must be a list with at least one message.",
            param=f"{prefix}messages",
            code="missing_required_parameter" if messages is None else "invalid_value",
        )
    if body.get("stream"):
        raise BadRequest(
            "A line of a batch cannot stream.", param=f"{prefix}stream", hint="Leave `stream` out."
        )
    if defaults.base_dir is not None:
        locate_in_messages(messages, defaults.base_dir)
    return _with_model(_filled(body, defaults), prefix)


def _unwrapped(line: dict[str, Any], endpoint: str) -> dict[str, Any]:
    if line.get("url", endpoint) != endpoint:
        raise BadRequest(f"`url` must be {endpoint}.", param="url", code="invalid_url")
    if line.get("method", "POST") != "POST":
        raise BadRequest("`method` must be POST.", param="method")
    body = line.get("body")
    if type(body) is not dict:
        raise BadRequest("`body` must be a JSON object.", param="body")
    return body


def _filled(body: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    if not defaults.fields:
        return body
    filled = {**defaults.fields, **body}
    # Two names of one thing: the line's own wins, whichever it uses.
    for one, other in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")):
        if one in body and other not in body:
            filled.pop(other, None)
    return filled


def _with_model(body: dict[str, Any], prefix: str) -> dict[str, Any]:
    if type(body.setdefault("model", DEFAULT_MODEL)) is not str:
        raise BadRequest(f"`{prefix}model` must be a model's name.", param=f"{prefix}model")
    return body
