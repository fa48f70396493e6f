"""Media that come again behind other words are not encoded again, and the answers are those of `generate`."""

import pytest
from answers import sequences_of, slots_of, together
from beginnings import AT_ONCE, CACHES, asking, media_behind_texts, of_scope, tower_runs
from crowds import family_of
from tiny_families import FAMILIES

from workers.model import hooks

# Families whose towers transformers cannot run apart from their decoders.
NEVER_ENCODED = {"mllama", "phi4_multimodal", "voxtral"}


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NEVER_ENCODED])
def test_media_behind_other_words_are_encoded_twice_at_most(name: str) -> None:
    family = family_of(name)
    kind = next(kind for kind in ("image", "video") if kind in family.kinds)
    asked = media_behind_texts(family, 5, kind)
    slots = slots_of(family.model, **CACHES)

    with tower_runs(family.model) as first_runs:
        first = asking(slots, *(prompt for prompt, _ in asked[:2]))
    with tower_runs(family.model) as runs:
        later = asking(slots, *(prompt for prompt, _ in asked[2:]))

    assert first_runs
    assert runs == []
    assert [each.tokens for each in [*first, *later]] == [answer[:6] for _, answer in asked]
    counters = slots.cache_counters["encoder"]
    assert (counters.hits, counters.misses) == (3, 2)
    assert 0 < counters.bytes_held <= CACHES["encoder_cache_bytes"]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NEVER_ENCODED])
def test_prompts_with_encoded_media_share_a_prefill_exactly(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One plan: two media, each behind four texts, of which one runs with the others and one encodes for the rest."""
    family = family_of(name)
    kinds = [kind for kind in ("image", "images") if kind in family.kinds]
    asked = [pair for kind in kinds for pair in media_behind_texts(family, 4, kind)]
    slots = slots_of(family.model, num_slots=8, **CACHES)
    sequences = sequences_of([(prompt, 6) for prompt, _ in asked])

    together(slots, sequences, AT_ONCE)

    assert not caplog.records, "a forward failed and was repeated without the caches"
    assert [each.tokens for each in sequences] == [answer[:6] for _, answer in asked]
    assert slots.cache_counters["encoder"].hits == 2 * len(kinds)


@pytest.mark.parametrize("name", sorted(NEVER_ENCODED))
def test_a_family_whose_towers_cannot_run_apart_has_no_encoder_cache(name: str) -> None:
    assert not hooks.can_encode(family_of(name).model)
    assert set(slots_of(family_of(name).model, **CACHES).cache_counters) == {"prefix"}


@pytest.mark.parametrize("asker", ["ours", "theirs"])
def test_tenants_share_no_encoded_media(asker: str) -> None:
    family = family_of("llava")
    *prompts, last = [prompt for prompt, _ in media_behind_texts(family, 4, "image")]
    slots = slots_of(family.model, **CACHES)
    asking(slots, *prompts)

    with tower_runs(family.model) as runs:
        asking(slots, of_scope(last, asker))

    assert bool(runs) is (asker == "theirs")
