"""A response's input as the conversation that the model continues, and errors about it in the request's own words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.contract.response_items import (
    FunctionCallItem,
    FunctionOutputItem,
    InputFile,
    InputImage,
    InputItem,
    InputPart,
    InputSound,
    InputText,
    InputVideo,
    MessageItem,
    OutputText,
    RefusalText,
)

# Chat's names of fields, and ours.
OWN_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema.schema": "text.format.schema",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "logprobs": "include",
    "messages": "input",
}


@dataclass(slots=True)
class ChatMessages:
    """The messages of a chat. places: where in the request each message and each of its parts stands."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def say(self, role: str, words: str, place: str) -> None:
        """Add a message of words alone."""
        self._add({"role": role, "content": words}, place)

    def take(self, items: Iterable[InputItem], place: str, *, numbered: bool) -> None:
        """Add items. place: where they stand; numbered: whether the reader of an error can count them there."""
        for number, item in enumerate(items):
            self._take(item, f"{place}[{number}]" if numbered else place, numbered)

    def _take(self, item: InputItem, place: str, numbered: bool) -> None:
        match item:
            case MessageItem(role=role, content=parts):
                said: dict[str, Any] = {"role": role, "content": [chat_part(part) for part in parts]}
                self._add(said, place, parts, "content" if numbered else None)
            case FunctionOutputItem(call_id=call_id, output=parts):
                content = [chat_part(part) for part in parts]
                told = {"role": "tool", "tool_call_id": call_id, "content": content}
                self._add(told, place, parts, "output" if numbered else None)
            case FunctionCallItem():
                self._call(item, place)

    def _call(self, item: FunctionCallItem, place: str) -> None:
        """Calls belong to the assistant's message before them; the model asked for them in one breath."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self._add({"role": "assistant", "content": None}, place)
        function = {"name": item.name, "arguments": item.arguments}
        calls = self.messages[-1].setdefault("tool_calls", [])
        self.places[f"messages[{len(self.messages) - 1}].tool_calls[{len(calls)}]"] = place
        calls.append({"id": item.call_id, "type": "function", "function": function})

    def _add(
        self, message: dict[str, Any], place: str, parts: Sequence[InputPart] = (), within: str | None = None
    ) -> None:
        here = f"messages[{len(self.messages)}]"
        self.messages.append(message)
        self.places[here] = place
        for number, part in enumerate(parts):
            there = place if within is None else f"{place}.{within}[{number}]"
            named = "" if within is None else place_within(part)
            self.places[f"{here}.content[{number}]"] = there
            self.places[f"{here}.content[{number}].{message['content'][number]['type']}"] = there + named


def chat_part(part: InputPart) -> dict[str, Any]:
    """The part of a chat message that this part is."""
    match part:
        case InputText(text=words) | OutputText(text=words) | RefusalText(refusal=words):
            return {"type": "text", "text": words}
        case InputImage():
            wanted = _given(url=part.image_url or part.file_id, max_pixels=part.max_pixels)
            detail = "high" if part.detail == "original" else part.detail
            return {"type": "image_url", "image_url": wanted | _given(detail=detail)}
        case InputVideo(video_url=wanted):
            return {"type": "video_url", "video_url": wanted.model_dump(exclude_unset=True)}
        case InputSound(input_audio=None, audio_url=wanted) if wanted is not None:
            return {"type": "audio_url", "audio_url": wanted.model_dump(exclude_unset=True)}
        case InputSound(input_audio=sound) if sound is not None:
            return {"type": "input_audio", "input_audio": sound.model_dump(exclude_unset=True)}
        case InputFile(file_url=None):
            named = _given(file_id=part.file_id, file_data=part.file_data, filename=part.filename)
            return {"type": "file", "file": named}
        case InputFile(file_url=url, kind=kind) if kind is not None:
            return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
    raise AssertionError("every part is one of these")


def place_within(part: InputPart) -> str:
    """The field of a part that says where its media lies."""
    names = ("image_url", "video_url", "audio_url", "input_audio", "file_url", "file_id", "file_data")
    return next((f".{name}" for name in names if getattr(part, name, None) is not None), "")


def own_param(param: str | None, places: Mapping[str, str]) -> str | None:
    """Where the request stands what a chat calls `param`."""
    if param is None:
        return None
    if param.startswith("tools["):
        return param.replace(".function", "", 1)
    known: dict[str, str] = {**OWN_NAMES, **places}
    for name in sorted(known, key=len, reverse=True):
        rest = param[len(name) :]
        if param.startswith(name) and rest[:1] in ("", ".", "["):
            return known[name] + rest.removeprefix(".function")
    return param


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
