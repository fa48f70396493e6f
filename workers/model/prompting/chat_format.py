"""How one model's chat template is fed: the form of its messages, its media tokens, and text that it must not obey."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jinja2
from transformers import BatchFeature

from service.contract.media import MediaKind
from service.errors import BadRequest, ConfigurationError
from workers.model.calling.tool_prompts import ToolPrompt
from workers.model.calling.tools import ToolFormat
from workers.model.prompting.processors import Processor
from workers.model.prompting.template_preludes import JOIN_PARTS, show_as_text
from workers.model.prompting.templates import ChatTemplate, with_tokens

Message: TypeAlias = dict[str, Any]

_PROBE = "a probe of the format"
_DECIDING = frozenset({"role", "type", "id", "tool_call_id", "name"})
_PLAIN_WORD = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ChatFormat:
    """A chat template that is ready to use. Stateless: threads may share it, each with its own processor."""

    def __init__(self, processor: Processor, template: ChatTemplate | None = None) -> None:
        self._media_tokens = _media_tokens(processor)
        chosen = template or ChatTemplate(_own_template(processor))
        source = with_tokens(chosen.source, self._media_tokens | chosen.tokens)
        self._takes_text = _renders(processor, source, _PROBE)
        takes_parts = _renders(processor, source, [{"type": "text", "text": _PROBE}])
        if not takes_parts:
            source = with_tokens(JOIN_PARTS + chosen.source, self._media_tokens | chosen.tokens)
            self._takes_text = True
        elif hidden := self._hidden_kinds(processor, source):
            source = with_tokens(show_as_text(hidden) + chosen.source, self._media_tokens | chosen.tokens)
        self._source = source
        self._control = _control_tokens(processor.tokenizer, source) | set(self._media_tokens.values())
        longest_first = sorted(self._control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._tools = ToolPrompt(
            processor.tokenizer,
            chosen.source,
            lambda talk, tools: self.render(processor, self._fit(talk), tools),
        )

    @property
    def tool_format(self) -> ToolFormat:
        """How the model is taught to call tools."""
        return self._tools.format

    def apply(
        self,
        processor: Processor,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        tools: Sequence[Message] | None = None,
    ) -> BatchFeature:
        """Render, tokenize and process one conversation whose media parts hold arrays.

        options: keyword arguments of the processor, and `add_generation_prompt`.
        tools, and the messages' calls and results: see `ToolPrompt.shape`.
        Errors: BadRequest where the template refuses, or where text writes control tokens that cannot be escaped.
        """
        shaped, shown_tools = self._tools.shape(messages, tools)
        conversation = self._fit(shaped)
        self._refuse_control_tokens_in_keys([shown_tools, [m.get("tool_calls") for m in conversation]])
        options = {**options, "tools": shown_tools}
        smuggled = self._control_tokens_of(processor, conversation, shown_tools)
        if not smuggled:
            return self._process(processor, conversation, options)
        self._refuse_placeholders(smuggled)
        try:
            features = self._process(processor, conversation, options, sanitize_control_tokens=True)
        except (ValueError, NotImplementedError) as error:
            raise _unescapable(min(smuggled)) from error
        expected = self._tokens_in(processor, _neutral(conversation), _neutral(shown_tools))
        ids = features["input_ids"][0].tolist()
        for token in smuggled:
            if ids.count(processor.tokenizer.convert_tokens_to_ids(token)) != expected[token]:
                raise _unescapable(token)
        return features

    def render(
        self, processor: Processor, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> str:
        """The prompt as text, before media tokens are expanded."""
        try:
            return str(
                processor.apply_chat_template(
                    list(messages),
                    chat_template=self._source,
                    tools=tools,
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
        except jinja2.TemplateError as error:
            raise _refused(error) from error

    def _hidden_kinds(self, processor: Processor, source: str) -> frozenset[MediaKind]:
        """Media of the family whose parts this template passes over."""
        named = {
            kind: self._media_tokens[f"{kind}_token"]
            for kind in MediaKind
            if f"{kind}_token" in self._media_tokens
        }
        return frozenset(kind for kind, token in named.items() if not _shows(processor, source, kind, token))

    def _process(
        self,
        processor: Processor,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        **switches: bool,
    ) -> BatchFeature:
        features: BatchFeature = processor.apply_chat_template(
            list(messages),
            chat_template=self._source,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **options,
            **switches,
        )
        return features

    def _control_tokens_of(
        self, processor: Processor, messages: Sequence[Message], tools: Sequence[Message] | None
    ) -> Counter[str]:
        """Control tokens that the text of the messages and tools writes, beyond those of the template itself.

        Rendered, not searched for in the text: two harmless parts can join into a token.
        """
        written = self._tokens_in(processor, messages, tools)
        return written - self._tokens_in(processor, _neutral(messages), _neutral(tools))

    def _tokens_in(
        self, processor: Processor, messages: Sequence[Message], tools: Sequence[Message] | None
    ) -> Counter[str]:
        return Counter(self._control_pattern.findall(self.render(processor, messages, tools)))

    def _fit(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages in the form that the template takes."""
        return messages if self._takes_text else [_as_parts(message) for message in messages]

    def _refuse_control_tokens_in_keys(self, value: Any) -> None:
        """Escaping looks at values alone; the names of properties and arguments are keys."""
        if isinstance(value, dict):
            for key in value:
                if found := self._control_pattern.search(key):
                    raise _unescapable(found[0])
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                self._refuse_control_tokens_in_keys(item)

    def _refuse_placeholders(self, smuggled: Counter[str]) -> None:
        """A medium's token in text is nearly always a leftover of another tool's format."""
        for kind, token in self._media_tokens.items():
            if token in smuggled:
                raise BadRequest(
                    f"The text contains {token}, with which this model marks {kind.removesuffix('_token')} parts.",
                    param="messages",
                    code="control_token_in_text",
                    hint="Remove it: every medium already has its own content part.",
                )


def _media_tokens(processor: Processor) -> dict[str, str]:
    names = [f"{kind}_token" for kind in MediaKind]
    return {name: token for name in names if isinstance(token := getattr(processor, name, None), str)}


def _own_template(processor: Processor) -> str:
    template = getattr(processor, "chat_template", None) or getattr(
        processor.tokenizer, "chat_template", None
    )
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str):
        raise ConfigurationError(
            "The model has no chat template of its own.",
            hint="Give one with --chat-template; the folder chat_templates/ has some to begin with.",
        )
    return template


def _renders(processor: Processor, source: str, content: str | list[dict[str, str]]) -> bool:
    """Whether a template shows this form of content as text, rather than failing on it or printing its structure."""
    prompt = _prompt(processor, source, content)
    return _PROBE in prompt and "'type'" not in prompt and '"type"' not in prompt


def _shows(processor: Processor, source: str, kind: MediaKind, token: str) -> bool:
    content = [{"type": kind.value}, {"type": "text", "text": _PROBE}]
    return token in _prompt(processor, source, content)


def _prompt(processor: Processor, source: str, content: str | list[dict[str, str]]) -> str:
    """What a template makes of one message of the user; nothing where it fails."""
    try:
        return str(
            processor.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=source,
                tokenize=False,
                add_generation_prompt=True,
            )
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError):
        return ""


def _control_tokens(tokenizer: Any, source: str) -> set[str]:
    """Tokens that steer the model: all special ones, and added ones that the template writes."""
    return {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content in source and not token.content.isspace())
    }


def _as_parts(message: Message) -> Message:
    content = message.get("content")
    return (
        {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message
    )


def _neutral(value: Any, key: str = "") -> Any:
    """The same structure with every text of the caller replaced by a harmless one.

    Templates decide by some texts; these stay where they are plain words.
    """
    if isinstance(value, str):
        return value if key in _DECIDING and _PLAIN_WORD.fullmatch(value) else "x" * bool(value)
    if isinstance(value, dict):
        return {name: _neutral(item, name) for name, item in value.items()}
    return [_neutral(item, key) for item in value] if isinstance(value, list | tuple) else value


def _unescapable(token: str) -> BadRequest:
    return BadRequest(
        f"The text contains {token}, a control token of this model that cannot be passed on as plain text.",
        param="messages",
        code="control_token_in_text",
        hint="Remove it, or put a space inside it.",
    )


def _refused(error: jinja2.TemplateError) -> BadRequest:
    # A bare TemplateError is the template's own sentence (raise_exception); others speak of its code.
    reason = str(error.message) if type(error) is jinja2.TemplateError else "it cannot render them"
    return BadRequest(f"The model's chat template refuses these messages: {reason}", param="messages")
