"""Validation errors in our own words: which field, what was expected, and nothing of the library's own text."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from service.errors import BadRequest

# pydantic's error types, and how we say them. The braces take the error's own context (bounds, choices).
SENTENCES = {
    "missing": "is required.",
    "literal_error": "must be one of {expected}.",
    "enum": "must be one of {expected}.",
    "string_type": "must be a string.",
    "string_too_short": "must have at least {min_length} characters.",
    "string_too_long": "must have at most {max_length} characters.",
    "string_pattern_mismatch": "has characters or a form that is not allowed.",
    "int_type": "must be a whole number.",
    "int_from_float": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "int_parsing_size": "must be a smaller whole number.",
    "float_type": "must be a number.",
    "float_parsing": "must be a number.",
    "finite_number": "must be a finite number.",
    "bool_type": "must be true or false.",
    "bool_parsing": "must be true or false.",
    "list_type": "must be a list.",
    "dict_type": "must be an object.",
    "model_type": "must be an object.",
    "model_attributes_type": "must be an object.",
    "none_required": "must be null.",
    "too_short": "must have at least {min_length} entries.",
    "too_long": "must have at most {max_length} entries.",
    "greater_than": "must be greater than {gt}.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than": "must be less than {lt}.",
    "less_than_equal": "must be at most {le}.",
    "union_tag_not_found": "needs a `type`.",
    "union_tag_invalid": "has a type we do not know; known are {expected_tags}.",
    "extra_forbidden": "is not a field we know.",
}
# Fields whose entries are of several kinds, told apart by their tags.
LISTS_OF_KINDS = ("content", "input", "output")


def bad_request(error: ValidationError, *, prefix: str = "") -> BadRequest:
    """The first thing wrong, as one sentence with its `param`."""
    first = error.errors(include_url=False, include_input=False)[0]
    context: Mapping[str, Any] = first.get("ctx", {})
    cause = context.get("error")
    param = prefix + param_path(first["loc"])
    if isinstance(cause, Refused):
        return BadRequest(str(cause), param=cause.param or param or None, code=cause.code)
    sentence = SENTENCES.get(first["type"], "has a wrong value.").format_map(_Context(context))
    code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
    return BadRequest(f"`{param or 'The body'}` {sentence}", param=param or None, code=code)


class Refused(ValueError):
    """A validator's own sentence, safe to show; raised inside a pydantic model.

    param: the field, where the validator knows better than the place it was called from.
    """

    def __init__(self, sentence: str, *, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(sentence)
        self.param = param
        self.code = code


class _Context(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "what the documentation says"


def param_path(location: Iterable[int | str]) -> str:
    """`messages[0].content[1].image_url.url` for pydantic's ('messages', 0, 'content', 1, 'image_url', …).

    pydantic puts the tag of a content part between its index and its fields; a reader of the request never wrote that.
    """
    path, previous, before = "", None, None
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not (isinstance(previous, int) and before in LISTS_OF_KINDS):
            path += f".{step}" if path else step
        previous, before = step, previous
    return path
