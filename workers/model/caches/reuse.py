"""What of a plan's prompts was computed before, in earlier steps or by a prompt of the same plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from workers.engine.protocol import Prefill
from workers.model import hooks
from workers.model.caches import prefix_states
from workers.model.caches.encoder_cache import EncoderCache, MediaKey, media_key
from workers.model.caches.openings import Opening, Round, contents, prepared, stem_of
from workers.model.caches.prefix_cache import CutRules, Entry, Hit, PrefixCache
from workers.model.hooks import Encoded, LayerSpec, Prefilled
from workers.model.prompting.content import Content


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What a prefill leaves for the caches, once its row has turned out finite."""

    entries: tuple[Entry, ...] = ()
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
        # By the entry of a stem, what its first user has to answer for.
        self._charges: dict[int, int] = {}
        self._grows_stems = True

    def begin(self) -> None:
        """Another plan begins."""
        self._entries = []
        self._encoded = {}
        self._charges = {}
        self._grows_stems = True

    def open(self, prefills: Sequence[Prefill]) -> Round:
        """How prompts begin, and which of them had better wait until others have left their states."""
        found = Round()
        for prefill in prefills:
            prompt = prepared(prefill)
            if prompt.content is None or self.prefixes is None:
                found.open(Opening(prefill, prompt))
            else:
                opening = Opening(prefill, prompt, hit=self.find(prompt.content))
                self._place(opening, prompt.content, found)
        self._count(found)
        return found

    def find(self, content: Content) -> Hit | None:
        """The longest beginning of a prompt that is held, or was computed in this plan."""
        assert self.prefixes is not None
        best = self.prefixes.find(content)
        for entry in self._entries:
            cut = self.rules.longest(entry.content, content)
            if cut > (best.num_cached if best else 0):
                best = Hit(entry, cut)
        return best

    def encode(
        self, group: Sequence[Opening], inputs: Mapping[str, torch.Tensor]
    ) -> tuple[Encoded | None, Findings]:
        """What stands for the media of a group; the towers run for a single opening that asks for it."""
        content = group[0].prompt.content
        if not group[0].encodes or content is None or self.encodings is None:
            held = [opening.encoded for opening in group if opening.encoded is not None]
            return hooks.encoded_together(held) if held else None, Findings()
        key = media_key(content)
        self.encodings.note(content, found=False)
        encoded = hooks.encode(self._model, inputs)
        if encoded is None:
            return None, Findings()
        self._encoded[key] = encoded
        return encoded, Findings(encoded=(key, encoded))

    def take(self, opening: Opening, prefilled: Prefilled, row: int) -> tuple[Entry, ...]:
        """Copy the states of a prefilled prompt out, if they shall be kept; with them, what the row proves finite."""
        used = (opening.hit.entry,) if opening.hit and opening.hit.entry in self._entries else ()
        content = opening.prompt.content
        if not opening.is_kept or content is None or self.prefixes is None:
            return used
        num_bytes = prefix_states.num_bytes(prefilled, self._specs, row, content.num_tokens)
        if not self.prefixes.has_room_for(num_bytes):
            return used
        states = prefix_states.take(prefilled, self._specs, row, content.num_tokens)
        hit = opening.hit
        replaces = hit is not None and hit.is_whole and self.rules.can_cut(content.num_tokens)
        entry = Entry(content.owned(), states, num_bytes, hit.entry if hit and replaces else None)
        self._entries.append(entry)
        return *used, entry

    def note_stem(self, stem: Opening, entries: tuple[Entry, ...]) -> None:
        """A stem was computed; if it could not be had, no prompt must wait for it again."""
        if entries and entries[-1].content.num_tokens == stem.prompt.num_tokens:
            self._charges[id(entries[-1])] = stem.num_new
        else:
            self._grows_stems = False

    def keep(self, findings: Findings) -> None:
        """Let every later plan use what a finite row has left."""
        if self.prefixes is not None:
            for entry in findings.entries:
                self.prefixes.add(entry)
        if findings.encoded is not None and self.encodings is not None:
            self.encodings.add(*findings.encoded)

    def _place(self, opening: Opening, content: Content, found: Round) -> None:
        """Let a prompt begin now, or wait for one that would spare it more than what was found for it."""
        if any(opening.is_spared_by(self.rules.longest(stem, content)) for stem in contents(found.stems)):
            found.waiting.append(opening.prefill)
            return
        place = found.most_alike(content)
        other = found.openings[place].prompt.content if place is not None else None
        if place is not None and other is not None:
            if opening.is_spared_by(self.rules.longest(other, content)):
                found.wait_for(place, opening)
                return
            num_tokens = self.rules.stem(other, content)
            if self._grows_stems and opening.is_spared_by(num_tokens):
                found.wait_for_stem(stem_of(opening.prompt, num_tokens, opening.hit), opening, place)
                return
        num_tokens = self.rules.seen_stem(content, self._num_seen(content))
        if self._grows_stems and opening.is_spared_by(num_tokens):
            found.wait_for_stem(stem_of(opening.prompt, num_tokens, opening.hit), opening)
            return
        found.open(opening)

    def _num_seen(self, content: Content) -> int:
        return self.prefixes.num_seen(content) if self.prefixes is not None else 0

    def _count(self, found: Round) -> None:
        """Let the caches look at what begins now. Media that are being encoded are waited for."""
        openings, encoding = {}, set()
        for place, opening in found.openings.items():
            content = opening.prompt.content
            if content is not None and opening.needs_media and media_key(content) in encoding:
                found.waiting.append(opening.prefill)
                continue
            openings[place] = counted = self._counted(opening)
            if counted.encodes and content is not None:
                encoding.add(media_key(content))
        found.openings = openings

    def _counted(self, opening: Opening) -> Opening:
        """The opening with what the caches think of it, which count it."""
        content = opening.prompt.content
        if content is None:
            return opening
        if self.prefixes is not None:
            num_charged = self._charges.pop(id(opening.hit.entry), 0) if opening.hit else 0
            opening = replace(opening, num_charged=num_charged)
            self.prefixes.note(opening.hit, opening.num_spared)
            is_wanted = self.prefixes.wants(content, opening.hit)
            opening = replace(opening, is_kept=opening.is_kept or is_wanted)
        if self.encodings is None or not content.media or not opening.needs_media:
            return opening
        encoded = self._encoded.get(media_key(content)) or self.encodings.find(content)
        encodes = encoded is None and self.encodings.has_seen(content)
        if not encodes:
            self.encodings.note(content, found=encoded is not None)
        return replace(opening, encoded=encoded, encodes=encodes)
