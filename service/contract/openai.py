"""OpenAI's chat words, for those who need several of them: requests in, completions out."""

from service.contract.chat import (
    ChatRequest,
    ignored_fields,
    media_refs,
    parse_chat_request,
    read_chat_request,
    template_messages,
)
from service.contract.replies import (
    choice_body,
    chunk,
    completion_body,
    completion_id,
    usage_body,
    usage_chunk,
)

__all__ = [
    "ChatRequest",
    "choice_body",
    "chunk",
    "completion_body",
    "completion_id",
    "ignored_fields",
    "media_refs",
    "parse_chat_request",
    "read_chat_request",
    "template_messages",
    "usage_body",
    "usage_chunk",
]
