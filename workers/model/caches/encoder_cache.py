"""What the towers made of media that were asked about before, where the text in front of them differs."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch

from workers.model.caches.cache_counters import CacheCounters
from workers.model.hooks import Encoded
from workers.model.prompting.content import Content

# Whose media, and their hash.
MediaKey: TypeAlias = tuple[str, bytes]
NUM_SEEN = 1 << 14


class EncoderCache:
    """Outputs within a budget of bytes; the one that was longest of no use goes first.

    Media are encoded apart, to be kept, only when they come for the second time: the first time they share the
    towers with other requests.
    """

    def __init__(self, max_bytes: int) -> None:
        self.counters = CacheCounters()
        self._max_bytes = max_bytes
        self._held: OrderedDict[MediaKey, tuple[Encoded, int]] = OrderedDict()
        self._seen: OrderedDict[MediaKey, None] = OrderedDict()

    def find(self, content: Content) -> Encoded | None:
        """What is held of a prompt's media. Does not count as a use."""
        found = self._held.get(media_key(content))
        return found[0] if found else None

    def note(self, content: Content, *, found: bool) -> None:
        """Count a prompt whose media were found, and keep them longer; or whose were not."""
        if not found:
            self.counters.misses += 1
            return
        self.counters.hits += 1
        self.counters.tokens_saved += content.media_stop - content.media_start
        if media_key(content) in self._held:
            self._held.move_to_end(media_key(content))

    def has_seen(self, content: Content) -> bool:
        """Whether these media came before; remembers them."""
        key = media_key(content)
        was_seen = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > NUM_SEEN:
            self._seen.popitem(last=False)
        return was_seen

    def add(self, key: MediaKey, encoded: Encoded) -> None:
        """Keep what the towers made."""
        num_bytes = _num_bytes(encoded)
        if num_bytes > self._max_bytes or key in self._held:
            return
        while self.counters.bytes_held + num_bytes > self._max_bytes:
            _, (_, freed) = self._held.popitem(last=False)
            self.counters.bytes_held -= freed
            self.counters.evictions += 1
        self._held[key] = encoded, num_bytes
        self.counters.bytes_held += num_bytes


def media_key(content: Content) -> MediaKey:
    """What media are held under: never found from another scope."""
    return content.scope, content.media


def _num_bytes(encoded: Encoded) -> int:
    """Memory behind all tensors; views of one tensor count once, and whole."""
    storages = {
        storage.data_ptr(): storage.nbytes()
        for output in encoded.outputs.values()
        for tensor in _tensors(list(vars(output).values()))
        if (storage := tensor.untyped_storage())
    }
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
