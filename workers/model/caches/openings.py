"""How the prompts of a plan begin, and in which order: those that leave states first, those that use them later."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workers.engine.protocol import Prefill, Sampling
from workers.model.caches.prefix_cache import MIN_SAVED_TOKENS, Hit
from workers.model.groups import PER_TOKEN
from workers.model.hooks import Encoded
from workers.model.prompting.content import Content
from workers.model.prompting.prepared import Prepared

_NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """How one prompt begins. hit: with states of an earlier one. encoded: with media that were encoded before.

    is_kept: its states shall be kept for others. encodes: its media shall be encoded apart, and kept.
    num_charged: tokens of its hit that were computed in this plan, on its account.
    """

    prefill: Prefill
    prompt: Prepared
    hit: Hit | None = None
    encoded: Encoded | None = None
    is_kept: bool = False
    encodes: bool = False
    num_charged: int = 0

    @property
    def num_cached(self) -> int:
        """Tokens that need not be computed."""
        return self.hit.num_cached if self.hit else 0

    @property
    def num_spared(self) -> int:
        """Tokens that were not computed for it."""
        return self.num_cached - self.num_charged

    @property
    def num_new(self) -> int:
        """Tokens to compute."""
        return self.prompt.num_tokens - self.num_cached

    @property
    def needs_media(self) -> bool:
        """Whether media lie among the tokens to compute."""
        content = self.prompt.content
        return content is None or (bool(content.media) and self.num_cached < content.media_stop)

    @property
    def is_helped(self) -> bool:
        """Whether something that was computed before takes part."""
        return self.hit is not None or self.encoded is not None or self.encodes

    def from_scratch(self) -> "Opening":
        """The same prompt without any help."""
        return Opening(self.prefill, self.prompt)

    def is_spared_by(self, num_tokens: int) -> bool:
        """Whether so many tokens from elsewhere would spare much more than its hit does."""
        content = self.prompt.content
        assert content is not None
        spares_media = bool(content.media) and self.needs_media and num_tokens >= content.media_stop
        return spares_media or num_tokens >= self.num_cached + MIN_SAVED_TOKENS


@dataclass(slots=True, eq=False)
class Round:
    """What is prefilled at once, by its place in the plan.

    stems: beginnings that several prompts share and that none of them ends with, to be computed before; nobody
    draws from them. waiting: for the stems, or for the states of an opening.
    """

    openings: dict[int, Opening] = field(default_factory=dict)
    waiting: list[Prefill] = field(default_factory=list)
    stems: list[Opening] = field(default_factory=list)
    _last: dict[bytes, int] = field(default_factory=dict)

    def open(self, opening: Opening) -> None:
        """Let it begin in this round, and others look at how it begins."""
        place = len(self.openings) + len(self.waiting)
        self.openings[place] = opening
        if opening.prompt.content is not None:
            self._last |= dict.fromkeys(opening.prompt.content.chain, place)

    def wait_for(self, place: int, opening: Opening) -> None:
        """Let it wait for the states of another."""
        self.openings[place] = replace(self.openings[place], is_kept=True)
        self.waiting.append(opening.prefill)

    def wait_for_stem(self, stem: Opening, opening: Opening, place: int | None = None) -> None:
        """Let it wait for a beginning of its own, and the opening at `place` too, which shares it."""
        self.stems.append(stem)
        if place is not None:
            self.waiting.append(self.openings.pop(place).prefill)
        self.waiting.append(opening.prefill)

    def most_alike(self, content: Content) -> int | None:
        """The place of the opening that begins most like a prompt, if any does."""
        places = (self._last[link] for link in reversed(content.chain) if link in self._last)
        return next((place for place in places if place in self.openings), None)


def stem_of(prompt: Prepared, num_tokens: int, hit: Hit | None) -> Opening:
    """The first tokens of a prompt as an opening of nobody's. hit: of the prompt."""
    assert prompt.content is not None
    content = prompt.content.beginning(num_tokens)
    inputs = {
        name: tensor[:, :num_tokens] if name in PER_TOKEN else tensor
        for name, tensor in prompt.inputs.items()
        if name in PER_TOKEN or content.media
    }
    stem = Prepared(inputs, content=content)
    return Opening(Prefill(_NOBODY, _NOBODY, stem, Sampling()), stem, hit, is_kept=True)


def prepared(prefill: Prefill) -> Prepared:
    """A prefill's prompt, of the only kind that this model takes."""
    if not isinstance(prefill.prompt, Prepared):
        raise TypeError("a prompt for this model must be a Prepared")
    return prefill.prompt


def contents(openings: Sequence[Opening]) -> list[Content]:
    """What the openings are made of."""
    return [opening.prompt.content for opening in openings if opening.prompt.content is not None]
