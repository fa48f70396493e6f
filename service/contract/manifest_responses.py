"""A manifest's lines for /v1/responses: OpenAI batch lines, or the bare request. The short form is chat's alone."""

from collections.abc import Mapping
from typing import Any

from service.contract.manifest_paths import locate
from service.contract.responses import ResponseRequest
from service.errors import BadRequest

URL_FIELDS = ("image_url", "video_url", "audio_url", "file_url")
REQUEST_FIELDS = frozenset(ResponseRequest.model_fields)
# What only a request that somebody waits for, or comes back to, can mean.
ALONE = ("stream", "background", "previous_response_id")


def response_line_body(
    body: Mapping[str, Any], fields: Mapping[str, Any], base_dir: str | None, prefix: str
) -> dict[str, Any]:
    """The request of one line, with a submission's `fields` for what it does not say. prefix: of the body's fields."""
    wanted = body.get("input")
    if not (type(wanted) in (str, list) and wanted):
        raise BadRequest(
            f"`{prefix}input` must be a string or a list with at least one item.",
            param=f"{prefix}input",
            code="missing_required_parameter" if wanted is None else "invalid_value",
        )
    for name in ALONE:
        if body.get(name):
            raise BadRequest(
                f"A line of a batch cannot have `{name}`.",
                param=f"{prefix}{name}",
                hint=f"Leave `{name}` out.",
            )
    if base_dir is not None and type(wanted) is list:
        _locate_in_items(wanted, base_dir)
    # It is how we keep a conversation that was continued, and no field of a request.
    return {**_known(fields), **{name: value for name, value in body.items() if name != "history"}}


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A submission's defaults that are fields here too."""
    most = fields.get("max_completion_tokens", fields.get("max_tokens"))
    known = {name: value for name, value in fields.items() if name in REQUEST_FIELDS}
    return known if most is None else {**known, "max_output_tokens": most}


def _locate_in_items(items: list[Any], base_dir: str) -> None:
    """Replace relative media paths in place; what is malformed is left for the desk to name."""
    for i, item in enumerate(items):
        content = item.get("content") if isinstance(item, dict) else None
        if not isinstance(content, list):
            continue
        for j, part in enumerate(content):
            for name in URL_FIELDS if isinstance(part, dict) else ():
                _locate_in_part(part, name, base_dir, f"input[{i}].content[{j}].{name}")


def _locate_in_part(part: dict[str, Any], name: str, base_dir: str, param: str) -> None:
    place = part.get(name)
    if isinstance(place, str):
        part[name] = locate(place, base_dir, param)
    elif isinstance(place, dict) and isinstance(place.get("url"), str):
        place["url"] = locate(place["url"], base_dir, f"{param}.url")
