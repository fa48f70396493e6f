"""Which states are found for a prompt, which are kept, and which go; no model is needed for that."""

import numpy as np
import pytest

from workers.model.caches.prefix_cache import MIN_SAVED_TOKENS, CutRules, Entry, PrefixCache
from workers.model.hooks import LayerSpec
from workers.model.prompting.content import Content, content_of

IMAGE = 99
FULL = [LayerSpec("full_attention")]
RING = [LayerSpec("full_attention"), LayerSpec("sliding_attention", window=65)]
LINEAR = [LayerSpec("full_attention"), LayerSpec("linear_attention")]
CROSS = [LayerSpec("full_attention"), LayerSpec("cross_attention")]
EVERY = {"full": FULL, "ring": RING, "linear": LINEAR, "cross": CROSS}


def prompt(tokens: list[int], media: bytes = b"", scope: str = "ours") -> Content:
    content = content_of(np.array(tokens, dtype=np.int64), placeholders={IMAGE}, media=media, scope=scope)
    assert content is not None
    return content


def text(num_tokens: int, *, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(1, 90, num_tokens).tolist()


def entry(content: Content, num_bytes: int = 10) -> Entry:
    return Entry(content, (), num_bytes)


def cache_of(specs: list[LayerSpec], *held: Content, max_bytes: int = 1000) -> PrefixCache:
    cache = PrefixCache(CutRules(specs), max_bytes)
    for content in held:
        cache.add(entry(content))
    return cache


def spared(cache: PrefixCache, content: Content) -> int:
    hit = cache.find(content)
    return hit.num_cached if hit else 0


@pytest.mark.parametrize("specs", EVERY.values(), ids=EVERY)
def test_a_chat_goes_on_where_its_last_prompt_ended(specs: list[LayerSpec]) -> None:
    said = text(100)

    assert spared(cache_of(specs, prompt(said)), prompt(said + text(20, seed=1))) == 100


@pytest.mark.parametrize(("name", "wanted"), [("full", 70), ("ring", 0), ("linear", 0), ("cross", 70)])
def test_only_columns_that_are_still_there_can_be_cut(name: str, wanted: int) -> None:
    held, asked = text(100), text(70) + text(30, seed=1)
    asked[:70] = held[:70]

    assert spared(cache_of(EVERY[name], prompt(held)), prompt(asked)) == wanted


def test_a_ring_can_be_cut_while_nothing_in_it_was_written_over() -> None:
    held = text(64)
    asked = held[:50] + text(50, seed=1)

    assert spared(cache_of(RING, prompt(held)), prompt(asked)) == 50
    assert spared(cache_of(RING, prompt([*held, 5])), prompt(asked)) == 0


def test_the_last_token_is_always_computed() -> None:
    said = text(64)

    assert spared(cache_of(FULL, prompt(said)), prompt(said)) == 63
    assert spared(cache_of(LINEAR, prompt(said)), prompt(said)) == 0


def test_little_is_not_worth_it_unless_it_is_media() -> None:
    short = text(MIN_SAVED_TOKENS - 4)
    shown = [*short[:10], IMAGE, IMAGE, *short[12:]]

    assert spared(cache_of(FULL, prompt(short)), prompt(short + text(9, seed=1))) == 0
    assert spared(cache_of(FULL, prompt(shown, b"a")), prompt(shown + text(9, seed=1), b"a")) == len(short)


def test_no_cut_goes_through_media() -> None:
    """Two pictures with words between them, which differ: what lies between cannot be the beginning."""
    lead = text(40)
    ours = [*lead, IMAGE, IMAGE, 1, 2, 3, IMAGE, IMAGE, 4]
    other = [*lead, IMAGE, IMAGE, 1, 2, 9, IMAGE, IMAGE, 4]

    assert spared(cache_of(FULL, prompt(ours, b"a")), prompt(other, b"a")) == 40
    assert spared(cache_of(FULL, prompt(ours, b"a")), prompt(ours, b"b")) == 40
    assert spared(cache_of(FULL, prompt(ours, b"a")), prompt([*ours, 5], b"a")) == len(ours)


def test_where_pictures_reach_every_token_other_pictures_share_nothing() -> None:
    ours = [*text(40), IMAGE, 1]

    assert spared(cache_of(CROSS, prompt(ours, b"a")), prompt(ours, b"b")) == 0
    assert spared(cache_of(CROSS, prompt(text(40))), prompt(ours, b"b")) == 0


@pytest.mark.parametrize("specs", EVERY.values(), ids=EVERY)
def test_what_is_held_for_one_scope_is_not_found_from_another(specs: list[LayerSpec]) -> None:
    said = text(100)
    cache = cache_of(specs, prompt(said))

    assert spared(cache, prompt([*said, 1], scope="theirs")) == 0
    assert spared(cache, prompt([*said, 1])) == 100


def test_states_from_before_positions_turn_another_way_serve_no_prompt_beyond() -> None:
    rules, said = CutRules(FULL, rope_boundary=100), text(60)

    assert rules.longest(prompt(said), prompt(said + text(40, seed=1))) == 60
    assert rules.longest(prompt(said), prompt(said + text(41, seed=1))) == 0


def test_prompts_part_where_a_stem_must_be_left_for_both() -> None:
    lead = text(50)
    one, other = prompt(lead + text(30, seed=1)), prompt(lead + text(30, seed=2))

    assert CutRules(LINEAR).stem(one, other) == 50
    assert CutRules(RING).stem(one, other) == 50
    assert CutRules(FULL).stem(one, other) == 0
    assert CutRules(LINEAR).stem(prompt(lead), prompt(lead)) == 49


def test_the_budget_holds_and_what_was_longest_of_no_use_goes_first() -> None:
    contents = [prompt(text(64, seed=seed)) for seed in range(4)]
    cache = cache_of(FULL, *contents[:3], max_bytes=30)
    cache.note(cache.find(contents[0]), num_spared=63)

    cache.add(entry(contents[3]))

    assert [spared(cache, content) > 0 for content in contents] == [True, False, True, True]
    assert (cache.counters.bytes_held, cache.counters.evictions) == (30, 1)


def test_what_is_larger_than_the_budget_is_not_kept_and_drives_nothing_out() -> None:
    held = prompt(text(64))
    cache = cache_of(FULL, held, max_bytes=30)

    cache.add(entry(prompt(text(64, seed=1)), num_bytes=31))

    assert spared(cache, held) > 0
    assert cache.counters.bytes_held == 10


def test_a_chat_takes_the_place_of_its_own_beginning() -> None:
    said = text(64)
    cache = cache_of(FULL, prompt(said))
    longer = prompt(said + text(20, seed=1))
    hit = cache.find(longer)
    assert hit is not None
    assert hit.is_whole

    cache.add(Entry(longer, (), 12, extends=hit.entry))

    assert cache.counters.bytes_held == 12
    assert spared(cache, prompt(said + text(20, seed=2))) == 64


def test_the_same_prompt_is_held_once() -> None:
    cache = cache_of(LINEAR, prompt(text(64)), prompt(text(64)))

    assert cache.counters.bytes_held == 10


def test_an_entry_that_is_gone_is_found_under_none_of_its_links() -> None:
    cache = cache_of(FULL, *(prompt(text(80, seed=seed)) for seed in range(9)), max_bytes=20)

    assert len(cache._by_link) == 2 * 5


def test_what_is_kept_is_new_or_goes_on_or_was_asked_by_others_too() -> None:
    lead = text(100)
    first, second, third = (prompt(lead + text(60, seed=seed)) for seed in (1, 2, 2))
    cache = PrefixCache(CutRules(FULL), 1000)

    assert cache.wants(first, None)
    cache.add(entry(first))
    assert not cache.wants(second, cache.find(second))
    assert cache.wants(third, cache.find(third))
    longer = prompt(first.tokens.tolist() + text(10, seed=3))
    assert cache.wants(longer, cache.find(longer))
    assert not cache.wants(first, cache.find(first))


def test_a_crowd_with_one_beginning_is_looked_through_in_no_time() -> None:
    lead = text(16)
    cache = PrefixCache(CutRules(FULL), 10_000)
    for seed in range(1, 500):
        cache.add(entry(prompt(lead + text(64, seed=seed))))
    looked_at = []
    truth = cache.rules.longest
    cache.rules.longest = lambda held, asked: looked_at.append(held) or truth(held, asked)  # type: ignore[method-assign]

    cache.find(prompt(lead + text(64, seed=900)))

    assert len(looked_at) <= 4
