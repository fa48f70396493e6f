"""Which way of calling tools a model has: its template and its special tokens tell."""

from transformers import PreTrainedTokenizerBase

from workers.model.calling.gemma_calls import CLOSE, OPEN, QUOTE, GemmaFormat
from workers.model.calling.json_calls import HermesFormat, LlamaFormat, MistralFormat, MistralSyntax
from workers.model.calling.tools import ToolFormat
from workers.model.calling.xml_calls import XmlFormat

_MISTRAL_MARKERS = (MistralSyntax.marker, MistralSyntax.call_id, MistralSyntax.args)
_LLAMA_MARKERS = ("<|python_tag|>", "<|python_start|>", "<|python_end|>")


def native_format(tokenizer: PreTrainedTokenizerBase, template: str) -> ToolFormat | None:
    """The format that a chat template teaches, or None for one that we do not know. template: its Jinja source."""
    ids: dict[str, int] = tokenizer.added_tokens_encoder
    if OPEN in template and all(marker in ids for marker in (OPEN, CLOSE, QUOTE)):
        return GemmaFormat(ids[OPEN], ids[CLOSE], ids[QUOTE])
    if MistralSyntax.marker in template and MistralSyntax.marker in ids:
        used = (marker for marker in _MISTRAL_MARKERS if marker in ids and marker in template)
        return MistralFormat({marker: ids[marker] for marker in used})
    if "<function=" in template:
        return XmlFormat()
    if "<tool_call>" in template:
        return HermesFormat()
    if any(marker in ids for marker in _LLAMA_MARKERS) and '"parameters"' in template:
        return LlamaFormat(frozenset(ids[marker] for marker in _LLAMA_MARKERS if marker in ids))
    return None
