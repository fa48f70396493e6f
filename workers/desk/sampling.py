"""From what a request says about drawing to what the engine draws by, once the prompt and the model are known."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from service.contract.chat import ChatRequest
from service.contract.sampling import seed_of
from service.errors import BadRequest, ContextTooLong
from workers.engine.protocol import Constraint, Sampling

# Where a request sets no limit; the room in the slot if that is less.
DEFAULT_ANSWER_TOKENS = 1024


def check_length(request: ChatRequest, num_prompt_tokens: int, max_context_tokens: int) -> None:
    """Refuse what no slot can hold. num_prompt_tokens: at least so many, if the prompt is not made yet."""
    room = max_context_tokens - num_prompt_tokens
    if room < 1:
        raise ContextTooLong(
            f"The prompt has {num_prompt_tokens} tokens, and prompt and answer together may have "
            f"{max_context_tokens}.",
            param="messages",
            hint="Shorten the conversation, or bound its media with `max_pixels`, `num_frames` or `fps`.",
        )
    wanted = request.max_answer_tokens or request.min_tokens or 0
    if wanted > room:
        raise ContextTooLong(
            f"{wanted} tokens are asked for, but the prompt leaves room for {room} of {max_context_tokens}.",
            param=_length_field(request),
            hint="Ask for fewer, or leave it out: the answer then takes the room that there is.",
        )


def check_tokens(request: ChatRequest, vocab_size: int) -> None:
    """Refuse token ids that the model does not have."""
    biased = ((int(token), "logit_bias") for token in request.logit_bias or ())
    stopping = ((token, f"stop_token_ids[{i}]") for i, token in enumerate(request.stop_token_ids or ()))
    for token, param in chain(biased, stopping):
        if token >= vocab_size:
            raise BadRequest(f"There is no token {token}: the model has {vocab_size}.", param=param)


def samplings(
    request: ChatRequest, *, seed: int, room: int, new_constraint: Callable[[], Constraint] | None = None
) -> tuple[Sampling, ...]:
    """One for each answer that the request wants. seed: if it names none. room: tokens left in the slot."""
    first = Sampling(
        temperature=request.sampling_temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k or 0,
        min_p=request.min_p or 0.0,
        max_tokens=request.max_answer_tokens
        or min(room, max(DEFAULT_ANSWER_TOKENS, request.min_tokens or 0)),
        min_tokens=request.min_tokens or 0,
        stop_ids=frozenset(request.stop_token_ids or ()),
        ignore_eos=bool(request.ignore_eos),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=request.repetition_penalty or 1.0,
        logit_bias=tuple((int(token), bias) for token, bias in (request.logit_bias or {}).items()),
        num_logprobs=request.num_logprobs,
    )
    return tuple(
        replace(
            first,
            seed=seed_of(choice, seed if request.seed is None else request.seed),
            constraint=None if new_constraint is None else new_constraint(),
        )
        for choice in range(request.num_choices)
    )


def _length_field(request: ChatRequest) -> str:
    fields = ("max_completion_tokens", "max_tokens", "min_tokens")
    return next(name for name in fields if getattr(request, name))
