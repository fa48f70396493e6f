"""How the engine and a model speak: plans of ints go down, sampled tokens come up. No torch here."""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias


class Handle(Protocol):
    """Something that only the model can look into: prepared inputs, or a parked row's KV."""

    @property
    def num_tokens(self) -> int:
        """Positions that it takes in a slot."""

    @property
    def num_bytes(self) -> int:
        """Memory that it holds."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What is left of a prompt whose inputs the model has read."""

    num_tokens: int
    num_bytes: int = 0


class Constraint(Protocol):
    """A grammar that one answer follows, and how far the answer has come in it. Only the model asks it anything.

    One constraint serves one sequence: it moves with every token that the sequence draws.
    """


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request wants its tokens drawn. temperature 0 is greedy.

    seed: the same seed gives the same text, alone or in any batch (float32).
    stop_ids: token ids that end the answer, besides the model's own.
    presence_penalty, frequency_penalty: OpenAI's, subtracted from the logits of tokens that the answer holds already.
    repetition_penalty: CTRL's (arXiv:1909.05858), on tokens of the prompt and of the answer; 1 changes nothing.
    logit_bias: (token id, what to add to its logit). num_logprobs: how many of the most likely tokens to report beside
    the drawn one; None reports nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    max_tokens: int = 256
    min_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    num_logprobs: int | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Prefill:
    """Take this prompt into `row` and draw its first token."""

    row: int
    sequence_id: int
    prompt: Handle
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of the device, executed in this order: free, park, restore, prefill, decode.

    free: rows whose KV is no longer wanted. park: rows to move out into a handle.
    restore: (row, parked handle) to move in.
    decode: rows that draw one more token; rows filled by this plan's prefills draw theirs in the prefill.
    """

    free: tuple[int, ...] = ()
    park: tuple[int, ...] = ()
    restore: tuple[tuple[int, Handle], ...] = ()
    prefill: tuple[Prefill, ...] = ()
    decode: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Natural logarithms of the model's own probabilities, before temperature, penalties and grammar.

    chosen: of the drawn token. top: (token id, logprob) of the most likely ones, best first.
    """

    chosen: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """Row `row` drew `token`. num_cached_tokens: of a prefill, the prompt tokens that a cache had computed before."""

    row: int
    token: int
    logprobs: Logprobs | None = None
    num_cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RowFailed:
    """Row `row` cannot go on (numbers not finite, out of memory even alone, or an exception); its neighbours can."""

    row: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Parked:
    """Row `row` was moved out of its slot into `handle`."""

    row: int
    handle: Handle


RowResult: TypeAlias = Token | RowFailed | Parked


class Pending(Protocol):
    """A launched step whose results were not yet asked for."""


class SlotModel(Protocol):
    """What the engine needs of a model. A scripted one stands in for a device in tests and passes the same suite."""

    @property
    def num_slots(self) -> int:
        """Rows of the running batch."""

    @property
    def max_context_tokens(self) -> int:
        """Positions of one row, prompt and answer together."""

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""

    @property
    def runs_ahead(self) -> bool:
        """Whether `launch` returns before the device is done, so that keeping one step in flight pays."""

    @property
    def can_park(self) -> bool:
        """Whether a row can be moved out of its slot and back."""

    def launch(self, plan: StepPlan) -> Pending:
        """Begin a step."""

    def collect(self, pending: Pending) -> Ordered[RowResult]:
        """Wait for a step and return what its rows drew."""


@dataclass(slots=True)
class Sequence:
    """One request inside the engine. `tag` is the desk's own business.

    num_cached_tokens: prompt tokens that a cache had computed before; known with the first token.
    device_seconds: its part of the steps that drew for it; see `Engine.share`.
    """

    id: int
    prompt: Handle
    sampling: Sampling
    priority: int = 1
    tag: object = None
    tokens: list[int] = field(default_factory=list)
    num_cached_tokens: int = 0
    device_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """New tokens of a sequence, in order. logprobs: one each, if the sequence asked for them."""

    sequence: Sequence
    tokens: tuple[int, ...]
    logprobs: tuple[Logprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """A sequence has ended.

    reason: `stop`, `length` or `cancelled`. The stopping token is in `tokens` if it was drawn.
    """

    sequence: Sequence
    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A sequence failed alone."""

    sequence: Sequence
    code: str
    message: str


EngineEvent: TypeAlias = Progress | Finished | Broken
