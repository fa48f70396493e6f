"""Requests about tokens: answered here, without the engine."""

from typing import Any

from service.contract.jobs import ClaimedJob
from service.contract.messages import Message, for_template, media_parts
from service.contract.tokens import DetokenizeRequest, TokenizeRequest
from service.contract.tools import template_tools
from service.errors import BadRequest
from workers.desk.prompts import Prompts
from workers.model.prompting.prepared import PromptCounts
from workers.model.prompting.prompts import Prompter


class TokenCounter:
    """Tells what one model's tokenizer and processor make of requests. Runs in several threads at once."""

    def __init__(self, prompter: Prompter, prompts: Prompts, max_context_tokens: int) -> None:
        self._prompter = prompter
        self._prompts = prompts
        self._max_context_tokens = max_context_tokens

    def tokenize(self, job: ClaimedJob, request: TokenizeRequest) -> dict[str, Any]:
        """The tokens of a text, or of a conversation with all its media."""
        if request.messages is not None:
            tokens, counts = self._conversation(job, request, request.messages)
        else:
            special = request.add_special_tokens is not False
            tokens = self._prompter.encode(request.prompt or "", add_special_tokens=special)
            counts = PromptCounts(text=len(tokens))
        return {
            "count": len(tokens),
            "max_model_len": self._max_context_tokens,
            "tokens": tokens,
            "token_strs": self._prompter.spell(tokens) if request.return_token_strs else None,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "text_tokens": counts.text,
                "image_tokens": counts.image,
                "video_tokens": counts.video,
                "audio_tokens": counts.audio,
            },
        }

    def detokenize(self, request: DetokenizeRequest) -> dict[str, Any]:
        """The text of tokens, special ones among it."""
        vocab_size = self._prompter.vocab_size
        for i, token in enumerate(request.tokens):
            if token >= vocab_size:
                raise BadRequest(
                    f"There is no token {token}: the model has {vocab_size}.", param=f"tokens[{i}]"
                )
        return {"prompt": self._prompter.decode(request.tokens)}

    def _conversation(
        self, job: ClaimedJob, request: TokenizeRequest, messages: list[Message]
    ) -> tuple[list[int], PromptCounts]:
        messages = self._prompts.with_file_kinds(job, messages)
        prompt = self._prompts.make(
            job,
            for_template(messages),
            [part.media(param) for param, part in media_parts(messages)],
            tools=template_tools(request.tools or []) or None,
            add_generation_prompt=request.add_generation_prompt,
        )
        tokens: list[int] = prompt.inputs["input_ids"][0].tolist()
        return tokens, prompt.counts
