"""Encoded media are held by scope and content, within a budget, from the second time on."""

from types import SimpleNamespace

import numpy as np
import torch

from workers.model.caches.encoder_cache import EncoderCache, media_key
from workers.model.hooks import Encoded
from workers.model.prompting.content import Content, content_of

IMAGE = 99


def prompt(media: bytes, scope: str = "ours") -> Content:
    content = content_of(np.array([1, IMAGE, IMAGE, 2]), placeholders={IMAGE}, media=media, scope=scope)
    assert content is not None
    return content


def encoded(num_floats: int = 25) -> Encoded:
    """An output in two parts of one tensor, as some towers give it."""
    features = torch.zeros(num_floats)
    return Encoded({"image": SimpleNamespace(pooler_output=features.split(10))}, frozenset({"pixel_values"}))


def test_media_are_worth_keeping_when_they_come_again() -> None:
    cache = EncoderCache(1000)

    assert not cache.has_seen(prompt(b"a"))
    assert cache.has_seen(prompt(b"a"))
    assert not cache.has_seen(prompt(b"b"))
    assert not cache.has_seen(prompt(b"a", scope="theirs"))


def test_media_are_found_again_in_their_own_scope_alone() -> None:
    cache, held = EncoderCache(1000), encoded()
    cache.add(media_key(prompt(b"a")), held)

    assert cache.find(prompt(b"a")) is held
    assert cache.find(prompt(b"b")) is None
    assert cache.find(prompt(b"a", scope="theirs")) is None


def test_the_budget_counts_memory_once_and_drops_what_was_longest_of_no_use() -> None:
    cache, contents = EncoderCache(200), [prompt(media) for media in (b"a", b"b", b"c")]
    for content in contents[:2]:
        cache.add(media_key(content), encoded())
    assert cache.counters.bytes_held == 200
    cache.note(contents[0], found=True)

    cache.add(media_key(contents[2]), encoded())

    assert [cache.find(content) is not None for content in contents] == [True, False, True]
    assert (cache.counters.bytes_held, cache.counters.evictions) == (200, 1)


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    cache = EncoderCache(99)

    cache.add(media_key(prompt(b"a")), encoded())

    assert cache.find(prompt(b"a")) is None
    assert cache.counters.bytes_held == 0


def test_uses_are_counted_with_the_tokens_that_were_not_encoded_again() -> None:
    cache = EncoderCache(1000)
    cache.note(prompt(b"a"), found=False)
    cache.note(prompt(b"a"), found=True)

    assert (cache.counters.hits, cache.counters.misses, cache.counters.tokens_saved) == (1, 1, 2)
