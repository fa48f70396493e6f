"""How a request wants its answers drawn: how many, how freely, until when, and with which probabilities told."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from service.contract.chat_parts import Wire
from service.contract.plain_errors import Refused

MAX_ANSWER_TOKENS = 1 << 20
MAX_CHOICES = 16
MAX_BIASED_TOKENS = 300
MAX_STOP_TOKENS = 64
MAX_TOP_LOGPROBS = 20
INT64 = (-(1 << 63), (1 << 63) - 1)
TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")
_GOLDEN_RATIO = 0x9E3779B97F4A7C15


def _as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return [] if value is None else value


def _with_token_ids(bias: dict[str, float]) -> dict[str, float]:
    for token in bias:
        if not TOKEN_ID.fullmatch(token):
            raise Refused("`logit_bias` must have token ids as its keys.", param="logit_bias")
    return bias


StopString = Annotated[str, Field(min_length=1, max_length=200)]
TokenId = Annotated[int, Field(ge=0, le=10**9)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]


class DrawingFields(Wire):
    """How tokens are drawn, as all endpoints that draw some spell it.

    An absent temperature means greedy: captions of the same picture should be the same text.
    """

    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0, le=1 << 20)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: float | None = Field(default=None, gt=0, le=2, allow_inf_nan=False)
    logit_bias: (
        Annotated[dict[str, Bias], Field(max_length=MAX_BIASED_TOKENS), AfterValidator(_with_token_ids)]
        | None
    ) = None
    seed: int | None = Field(default=None, ge=INT64[0], le=INT64[1])
    stop: Annotated[
        list[StopString],
        BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
        Field(max_length=4),
    ] = Field(default_factory=list)
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKENS)] | None = None
    ignore_eos: bool | None = None


class SamplingFields(DrawingFields):
    """The part of a chat request that says how its answers are drawn, how many, and how long they may be."""

    max_tokens: int | None = Field(default=None, ge=1, le=MAX_ANSWER_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_ANSWER_TOKENS)
    min_tokens: int | None = Field(default=None, ge=0, le=MAX_ANSWER_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "SamplingFields":
        if self.top_logprobs and not self.logprobs:
            raise Refused("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
        most = self.max_answer_tokens
        if most is not None and (self.min_tokens or 0) > most:
            raise Refused(f"`min_tokens` is more than the most tokens, {most}.", param="min_tokens")
        return self

    @property
    def max_answer_tokens(self) -> int | None:
        """The most tokens of an answer, where the request says."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def sampling_temperature(self) -> float:
        """0 is greedy, and the default."""
        return 0.0 if self.temperature is None else self.temperature

    @property
    def num_choices(self) -> int:
        """How many answers."""
        return self.n or 1

    @property
    def num_logprobs(self) -> int | None:
        """How many of the likeliest tokens to tell beside the drawn one; None tells nothing at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


def seed_of(choice: int, seed: int) -> int:
    """The seed of one of a request's answers. The first draws as a request for one answer would.

    The others lie far apart: neighbouring seeds, or jobs that draw by their numbers, must not share answers.
    """
    return seed if choice == 0 else (seed + choice * _GOLDEN_RATIO) % (1 << 64)
