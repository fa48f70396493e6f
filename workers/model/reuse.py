"""What of a plan's prompts was computed before, in earlier steps or by a prompt of the same plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from workers.engine.protocol import Prefill
from workers.model import hooks, prefix_states
from workers.model.content import Content
from workers.model.encoder_cache import EncoderCache, MediaKey, media_key
from workers.model.hooks import Encoded, LayerSpec, Prefilled
from workers.model.prefix_cache import MIN_SAVED_TOKENS, CutRules, Entry, Hit, PrefixCache
from workers.model.prepared import Prepared


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """How one prompt begins. hit: with states of an earlier one. encoded: with media that were encoded before.

    is_kept: its states shall be kept for others. encodes: its media shall be encoded apart, and kept.
    """

    prefill: Prefill
    prompt: Prepared
    hit: Hit | None = None
    encoded: Encoded | None = None
    is_kept: bool = False
    encodes: bool = False

    @property
    def num_cached(self) -> int:
        """Tokens that need not be computed."""
        return self.hit.num_cached if self.hit else 0

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


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What a prefill leaves for the caches, once its row has turned out finite."""

    entry: Entry | None = None
    encoded: tuple[MediaKey, Encoded] | None = None


class Reuse:
    """The caches of one model. A budget of 0 bytes turns one off."""

    def __init__(
        self, model: PreTrainedModel, specs: Sequence[LayerSpec], prefix_bytes: int, encoder_bytes: int
    ) -> None:
        self._model = model
        self._specs = specs
        self.rules = CutRules(specs, hooks.rope_boundary(model))
        self.prefixes = PrefixCache(self.rules, prefix_bytes) if prefix_bytes else None
        self.encodings = EncoderCache(encoder_bytes) if encoder_bytes and hooks.can_encode(model) else None
        # Of the plan that is being prefilled: not proven finite, so that no other plan may use them.
        self._entries: list[Entry] = []
        self._encoded: dict[MediaKey, Encoded] = {}

    def begin(self) -> None:
        """Another plan begins."""
        self._entries = []
        self._encoded = {}

    def open(self, prefills: Sequence[Prefill]) -> tuple[list[Opening], list[Prefill]]:
        """How prompts begin, and which of them had better wait until those have left their states."""
        openings: list[Opening] = []
        waiting: list[Prefill] = []
        leaders: dict[bytes, int] = {}
        for prefill in prefills:
            opening = self._open(prefill)
            leader = self._leader(opening, openings, leaders)
            if leader is not None:
                openings[leader] = replace(openings[leader], is_kept=True)
                waiting.append(prefill)
                continue
            if self.prefixes is not None and opening.prompt.content is not None:
                leaders |= dict.fromkeys(opening.prompt.content.chain, len(openings))
            openings.append(self._counted(opening))
        return openings, waiting

    def find(self, content: Content) -> Hit | None:
        """The longest beginning of a prompt that is held, or was computed in this plan."""
        assert self.prefixes is not None
        best = self.prefixes.find(content)
        for entry in self._entries:
            cut = self.rules.longest(entry.content, content)
            if cut > (best.num_cached if best else 0):
                best = Hit(entry, cut)
        return best

    def encode(self, opening: Opening, inputs: Mapping[str, torch.Tensor]) -> tuple[Encoded | None, Findings]:
        """What stands for an opening's media; the towers run for it if it asks for that."""
        content = opening.prompt.content
        if not opening.encodes or content is None or self.encodings is None:
            return opening.encoded, Findings()
        key = media_key(content)
        encoded = self._encoded.get(key)
        self.encodings.note(content, found=encoded is not None)
        if encoded is not None:
            return encoded, Findings()
        encoded = hooks.encode(self._model, inputs)
        if encoded is None:
            return None, Findings()
        self._encoded[key] = encoded
        return encoded, Findings(encoded=(key, encoded))

    def take(self, opening: Opening, prefilled: Prefilled, row: int) -> Entry | None:
        """Copy the states of a prefilled prompt out, if they shall be kept."""
        content = opening.prompt.content
        if not opening.is_kept or content is None or self.prefixes is None:
            return None
        num_bytes = prefix_states.num_bytes(prefilled, self._specs, row, content.num_tokens)
        if not self.prefixes.has_room_for(num_bytes):
            return None
        states = prefix_states.take(prefilled, self._specs, row, content.num_tokens)
        hit = opening.hit
        replaces = hit is not None and hit.is_whole and self.rules.can_cut(content.num_tokens)
        entry = Entry(content, states, num_bytes, hit.entry if hit and replaces else None)
        self._entries.append(entry)
        return entry

    def keep(self, findings: Findings) -> None:
        """Let every later plan use what a finite row has left."""
        if findings.entry is not None and self.prefixes is not None:
            self.prefixes.add(findings.entry)
        if findings.encoded is not None and self.encodings is not None:
            self.encodings.add(*findings.encoded)

    def _open(self, prefill: Prefill) -> Opening:
        prompt = prefill.prompt
        if not isinstance(prompt, Prepared):
            raise TypeError("a prompt for this model must be a Prepared")
        content = prompt.content
        if content is None or self.prefixes is None:
            return Opening(prefill, prompt)
        return Opening(prefill, prompt, hit=self.find(content))

    def _leader(self, opening: Opening, openings: list[Opening], leaders: dict[bytes, int]) -> int | None:
        """Which opening of this round would spare a prompt more than what was found for it does."""
        content = opening.prompt.content
        if content is None or not leaders:
            return None
        place = next((leaders[link] for link in reversed(content.chain) if link in leaders), None)
        if place is None:
            return None
        leader = openings[place].prompt.content
        assert leader is not None
        cut = self.rules.longest(leader, content)
        spares_media = opening.needs_media and bool(content.media) and cut >= content.media_stop
        return place if spares_media or cut >= opening.num_cached + MIN_SAVED_TOKENS else None

    def _counted(self, opening: Opening) -> Opening:
        """The opening with what the caches think of it, which count it."""
        content = opening.prompt.content
        if content is None:
            return opening
        if self.prefixes is not None:
            self.prefixes.note(opening.hit)
            opening = replace(opening, is_kept=self.prefixes.wants(content, opening.hit))
        if self.encodings is None or not content.media or not opening.needs_media:
            return opening
        encoded = self._encoded.get(media_key(content)) or self.encodings.find(content)
        encodes = encoded is None and self.encodings.has_seen(content)
        if not encodes:
            self.encodings.note(content, found=encoded is not None)
        return replace(opening, encoded=encoded, encodes=encodes)
