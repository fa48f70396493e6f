"""Small processors whose templates and tokens call tools in each family's way, and tools for them."""

from functools import cache
from pathlib import Path
from typing import Any

from family_processors import byte_tokenizer
from pydantic import TypeAdapter
from transformers import ProcessorMixin, TokenizersBackend

from service.contract.tools import Tool
from workers.model.prompting.templates import ChatTemplate, load_template

SHIPPED = Path(__file__).resolve().parents[3] / "chat_templates"

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "maxLength": 6, "description": "A town."},
        "days": {"$ref": "#/$defs/count"},
        "unit": {"enum": ["C", "F"]},
        "hours": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 23}, "maxItems": 3},
        "exact": {"type": ["boolean", "null"]},
        "at": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
    "required": ["place", "unit"],
    "additionalProperties": False,
    "$defs": {"count": {"type": "integer", "minimum": 1, "maximum": 14}},
}

_CHATML = ("<|im_start|>", "<|im_end|>")
_MISTRAL = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]")
# Special tokens by family. Its template says, in short, what the family's own templates say.
SPECIAL: dict[str, tuple[str, ...]] = {
    "qwen": _CHATML,
    "qwen_xml": _CHATML,
    "gemma": (
        *("<|turn>", "<turn|>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", '<|"|>'),
        *("<|tool_response>", "<tool_response|>"),
    ),
    "mistral": (*_MISTRAL, "[/AVAILABLE_TOOLS]", "[ARGS]"),
    "mistral_shipped": (
        *_MISTRAL,
        "[/AVAILABLE_TOOLS]",
        "[TOOL_CONTENT]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
    ),
    "llama": ("<|header_start|>", "<|header_end|>", "<|eot|>", "<|python_start|>", "<|python_end|>"),
    "plain": _CHATML,
    "no_system": (),
}


class TextProcessor(ProcessorMixin):
    """A processor with a tokenizer alone."""

    image_token, video_token, audio_token = "<image>", "<video>", "<audio>"

    def __init__(self, tokenizer: object) -> None:
        super().__init__(tokenizer)


@cache
def tool_processor(family: str) -> TextProcessor:
    """A processor with the family's special tokens."""
    return TextProcessor(byte_tokenizer(SPECIAL[family], bos="<bos>", eos="<eos>"))


def tokenizer_of(family: str) -> TokenizersBackend:
    """Its tokenizer."""
    chosen = tool_processor(family).tokenizer
    assert isinstance(chosen, TokenizersBackend)
    return chosen


def template_of(family: str) -> ChatTemplate:
    """Its template."""
    if family == "mistral_shipped":
        return load_template(SHIPPED / "mistral_small_tool_call.jinja")
    return load_template(Path(__file__).parent / "tool_templates" / f"{family}.jinja")


def some_tools(*, strict: bool = True, **parameters: Any) -> list[Tool]:
    """A strict tool with the given parameters, or PARAMETERS, and one without any."""
    weather = {"name": "weather", "description": "Tells the weather.", "strict": strict}
    return TypeAdapter(list[Tool]).validate_python(
        [
            {"type": "function", "function": {**weather, "parameters": parameters or PARAMETERS}},
            {"type": "function", "function": {"name": "now"}},
        ]
    )
