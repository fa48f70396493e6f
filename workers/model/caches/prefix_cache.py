"""States of prompts that were prefilled before, for prompts that begin alike."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from workers.model.caches.cache_counters import CacheCounters
from workers.model.caches.prefix_states import LINEAR_KINDS, PrefixState
from workers.model.hooks import LayerSpec
from workers.model.prompting.content import BLOCK, Content

# Fewer tokens than this are computed faster than they are found and laid out.
MIN_SAVED_TOKENS = 32
# Hashes of beginnings that are remembered without their states: a few MiB.
NUM_SEEN = 1 << 14
# Entries looked at for one hash: they all share that beginning, and the newest is as good as any.
_NUM_CANDIDATES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """The states of one prompt after its last token. extends: an entry that this one makes needless."""

    content: Content
    states: tuple[PrefixState, ...]
    num_bytes: int
    extends: "Entry | None" = None


@dataclass(frozen=True, slots=True)
class Hit:
    """The first `num_cached` tokens of a prompt are those of an entry."""

    entry: Entry
    num_cached: int

    @property
    def is_whole(self) -> bool:
        """Whether the prompt goes on where the entry ends."""
        return self.num_cached == self.entry.content.num_tokens


class CutRules:
    """Where a decoder's states can be cut, so that another prompt goes on from there."""

    def __init__(self, specs: Sequence[LayerSpec], rope_boundary: int | None = None) -> None:
        kinds = {spec.kind for spec in specs}
        windows = [spec.window for spec in specs if spec.window is not None]
        self._holds_columns = not kinds & LINEAR_KINDS
        # A ring of a prefilled cache holds one column less than its window; beyond that, old ones are gone.
        self._ring = min(windows) - 1 if windows else None
        self._media_reach_everywhere = "cross_attention" in kinds
        self._rope_boundary = rope_boundary

    def can_cut(self, num_tokens: int) -> bool:
        """Whether states after `num_tokens` also tell what they were after any token before."""
        return self._holds_columns and (self._ring is None or num_tokens <= self._ring)

    def can_pad(self, num_columns: int) -> bool:
        """Whether padding may lie between cached and new columns: it shifts what a ring sees, and wears off a state."""
        return self.can_cut(num_columns)

    def longest(self, held: Content, prompt: Content) -> int:
        """How many of a prompt's tokens the states of `held` spare; 0 if it is not worth the while."""
        cut = self._common(held, prompt)
        if not self.can_cut(held.num_tokens):
            cut = held.num_tokens if cut >= held.num_tokens else 0
        return self._worth(prompt, cut) if self._same_turn(held.num_tokens, prompt.num_tokens) else 0

    def stem(self, one: Content, other: Content) -> int:
        """After how many tokens two prompts part, if neither's own states tell the other what they were there."""
        if self.can_cut(one.num_tokens) or not self._same_turn(one.num_tokens, other.num_tokens):
            return 0
        return self._worth(other, min(self._common(one, other), one.num_tokens - 1))

    def seen_stem(self, prompt: Content, num_seen: int) -> int:
        """The same for a prompt of whose first tokens only hashes are held."""
        if self.can_cut(prompt.num_tokens) or not self._same_turn(num_seen, prompt.num_tokens):
            return 0
        return self._worth(prompt, min(num_seen, prompt.num_tokens - 1))

    def _common(self, held: Content, prompt: Content) -> int:
        """How many tokens both begin with, but for the last one, which is always computed."""
        if held.media != prompt.media and self._media_reach_everywhere:
            # Cross-attention adds to every text token, even where its mask lets it see nothing.
            return 0
        return min(held.shared_tokens(prompt), prompt.num_tokens - 1)

    @staticmethod
    def _worth(prompt: Content, cut: int) -> int:
        """A cut before the media if it would go through them; 0 if it spares too little."""
        if prompt.media_start < cut < prompt.media_stop:
            cut = prompt.media_start
        saves_media = bool(prompt.media) and cut >= prompt.media_stop
        return cut if saves_media or cut >= MIN_SAVED_TOKENS else 0

    def _same_turn(self, num_held: int, num_tokens: int) -> bool:
        boundary = self._rope_boundary
        return boundary is None or (num_held > boundary) == (num_tokens > boundary)


class PrefixCache:
    """Entries within a budget of bytes; the one that was longest of no use goes first.

    Used from the engine's thread only. Hashes find candidates, tokens and scope decide.
    """

    def __init__(self, rules: CutRules, max_bytes: int) -> None:
        self.rules = rules
        self.counters = CacheCounters()
        self._max_bytes = max_bytes
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._by_link: dict[bytes, dict[int, Entry]] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def find(self, content: Content) -> Hit | None:
        """The longest beginning of a prompt that is held. Does not count as a use."""
        best: Hit | None = None
        for number in range(len(content.chain), 0, -1):
            if best is not None and best.num_cached >= number * BLOCK:
                break
            for entry in self._newest(content.chain[number - 1]):
                cut = self.rules.longest(entry.content, content)
                if cut > (best.num_cached if best else 0):
                    best = Hit(entry, cut)
        return best

    def note(self, hit: Hit | None, num_spared: int) -> None:
        """Count a prompt that was spared something, and keep its entry longer; or one that was not."""
        if num_spared:
            self.counters.hits += 1
            self.counters.tokens_saved += num_spared
        else:
            self.counters.misses += 1
        if hit is not None and id(hit.entry) in self._entries:
            self._entries.move_to_end(id(hit.entry))

    def wants(self, content: Content, hit: Hit | None) -> bool:
        """Whether the states of a prompt are worth keeping, if `hit` was found for it; remembers its beginning.

        What is new in it should not be the smaller part, unless it goes on where an entry ends, as a chat does, or
        others have begun like this before.
        """
        num_cached = hit.num_cached if hit else 0
        num_new = content.num_tokens - num_cached
        was_seen = self.num_seen(content) >= num_cached + MIN_SAVED_TOKENS
        self._see(content)
        if content.num_tokens < MIN_SAVED_TOKENS or num_new <= 1:
            return False
        return hit is None or was_seen or hit.is_whole or num_new >= num_cached

    def num_seen(self, content: Content) -> int:
        """How many tokens of a prompt some prompt before it began with."""
        return BLOCK * sum(1 for _ in takewhile(self._seen.__contains__, content.chain))

    def has_room_for(self, num_bytes: int) -> bool:
        """Whether so much could be kept at all."""
        return num_bytes <= self._max_bytes

    def add(self, entry: Entry) -> None:
        """Keep an entry; what it says better than others goes, and what no longer fits."""
        if id(entry) in self._entries or not self.has_room_for(entry.num_bytes):
            return
        needless = [held for held in self._newest(entry.content.chain[-1]) if _same(held, entry)]
        if entry.extends is not None and id(entry.extends) in self._entries:
            needless.append(entry.extends)
        for held in needless:
            self._drop(held)
        while self.counters.bytes_held + entry.num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries.values())))
            self.counters.evictions += 1
        self._entries[id(entry)] = entry
        self.counters.bytes_held += entry.num_bytes
        for link in self._links(entry.content):
            self._by_link.setdefault(link, {})[id(entry)] = entry

    def _newest(self, link: bytes) -> list[Entry]:
        return list(islice(reversed(self._by_link.get(link, {}).values()), _NUM_CANDIDATES))

    def _links(self, content: Content) -> Iterable[bytes]:
        """Where an entry can be found: at every block, or at its end alone if it cannot be cut."""
        return content.chain if self.rules.can_cut(content.num_tokens) else content.chain[-1:]

    def _drop(self, entry: Entry) -> None:
        del self._entries[id(entry)]
        self.counters.bytes_held -= entry.num_bytes
        for link in self._links(entry.content):
            found = self._by_link[link]
            del found[id(entry)]
            if not found:
                del self._by_link[link]

    def _see(self, content: Content) -> None:
        """Remember how a prompt begins."""
        for link in content.chain:
            self._seen[link] = None
            self._seen.move_to_end(link)
        while len(self._seen) > NUM_SEEN:
            self._seen.popitem(last=False)


def _same(one: Entry, other: Entry) -> bool:
    length = one.content.num_tokens
    return length == other.content.num_tokens == one.content.shared_tokens(other.content)
