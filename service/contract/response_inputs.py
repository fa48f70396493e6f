"""A response's input as it is read back: whole items, each with an id."""

from collections.abc import Sequence

from service.contract.response_items import InputItem, MessageItem
from service.contract.response_objects import InputItemObject


def input_objects(items: Sequence[InputItem], job_id: int) -> list[InputItemObject]:
    """The items in their order. One that came without an id gets one of ours."""
    return [_object(item, f"item_{job_id}_{number}") for number, item in enumerate(items)]


def _object(item: InputItem, item_id: str) -> InputItemObject:
    told = item.model_dump(exclude_none=True)
    told = {"id": item_id, "status": "completed", **told}
    if isinstance(item, MessageItem) and item.role == "assistant":
        told["content"] = [_said(part) for part in told["content"]]
    return InputItemObject.model_validate(told)


def _said(part: dict[str, object]) -> dict[str, object]:
    """What an assistant said may have been sent as plain words."""
    if part["type"] == "input_text":
        return {"type": "output_text", "text": part["text"], "annotations": []}
    return {"annotations": [], **part} if part["type"] == "output_text" else part
