"""An answer that goes on from what was computed before is the one that `generate` gives to the whole prompt."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from answers import broken, sequences_of, slots_of, together
from beginnings import (
    AT_ONCE,
    CACHES,
    NUM_SPARED,
    ONE_A_STEP,
    Beginnings,
    asking,
    beginnings_of,
    of_scope,
    same_media,
    scoped,
    tower_runs,
    with_other_media,
)
from crowds import family_of
from tiny_families import FAMILIES
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling, Sequence
from workers.model.caches.prefix_cache import CutRules
from workers.model.prompting.content import Content
from workers.model.slot_model import TorchSlotModel


@pytest.fixture(params=list(FAMILIES), scope="session")
def beginnings(request: pytest.FixtureRequest) -> Beginnings:
    """Each family's requests in turn."""
    return beginnings_of(request.param)


def caching(beginnings: Beginnings, num_slots: int = 4, **options: int) -> TorchSlotModel:
    return slots_of(beginnings.family.model, num_slots=num_slots, **(CACHES | options))


@pytest.mark.parametrize("config", [ONE_A_STEP, AT_ONCE], ids=["one a step", "at once"])
def test_prompts_that_begin_alike_stay_exact(
    beginnings: Beginnings, config: EngineConfig, caplog: pytest.LogCaptureFixture
) -> None:
    slots = caching(beginnings, num_slots=10)
    sequences = sequences_of(beginnings.requests)

    events = together(slots, sequences, config)

    assert broken(events) == {}
    assert not caplog.records, "a forward failed and was repeated without the caches"
    assert [sequence.tokens for sequence in sequences] == beginnings.answers
    spared = [sequence.num_cached_tokens for sequence in sequences]
    assert sum(num > 0 for num in spared) >= NUM_SPARED - 2
    counters = slots.cache_counters["prefix"]
    assert (counters.hits, counters.tokens_saved) == (sum(num > 0 for num in spared), sum(spared))


def test_no_tower_runs_for_media_that_lie_in_a_cached_beginning(beginnings: Beginnings) -> None:
    prompts = [prompt for prompt, _ in beginnings.requests[4:7]]
    assert prompts[0].content is not None
    assert prompts[0].content.media
    slots = caching(beginnings, encoder_cache_bytes=0)
    asking(slots, prompts[0], prompts[1])

    with tower_runs(beginnings.family.model) as runs:
        third = asking(slots, prompts[2])[0]
    with tower_runs(beginnings.family.model) as runs_without:
        asking(caching(beginnings, prefix_cache_bytes=0, encoder_cache_bytes=0), prompts[2])

    assert third.num_cached_tokens >= prompts[2].content.media_stop  # type: ignore[union-attr]
    assert runs == []
    assert runs_without


@pytest.mark.parametrize("name", ["gemma3", "idefics3", "qwen2_5_vl", "qwen3_5", "mllama"])
def test_rows_that_began_in_a_cache_are_parked_and_put_back_exactly(name: str) -> None:
    beginnings = beginnings_of(name)
    sequences = sequences_of([(prompt, 10) for prompt, _ in beginnings.requests])
    bulk, chats = sequences[:7], sequences[7:]
    for chat in chats:
        chat.priority = 0
    engine = Engine(caching(beginnings, num_slots=3), EngineConfig(prefill_group=1))
    for sequence in bulk:
        engine.submit(sequence)
    for _ in range(5):
        engine.step()
    for chat in chats:
        engine.submit(chat)
    engine.step()
    assert {len(sequence.tokens) for sequence in bulk[:3]} == {5}

    while engine.has_work:
        engine.step()

    for sequence, answer in zip(sequences, beginnings.answers, strict=True):
        assert sequence.tokens[: len(answer)] == answer
    assert any(sequence.num_cached_tokens for sequence in sequences)


@pytest.mark.parametrize("name", ["gemma4", "llava", "qwen3_5"])
def test_answers_to_one_request_share_its_prefill_and_keep_their_seeds(name: str) -> None:
    beginnings = beginnings_of(name)
    prompt = beginnings.requests[5][0]
    wishes = [Sampling(temperature=0.9, seed=seed, max_tokens=8) for seed in range(5)]
    said: list[list[list[int]]] = []
    for slots in (caching(beginnings, num_slots=5), slots_of(beginnings.family.model, num_slots=5)):
        answers = [Sequence(number, prompt, wish) for number, wish in enumerate(wishes)]
        together(slots, answers, AT_ONCE)
        said.append([answer.tokens for answer in answers])

    assert said[0] == said[1]
    assert len({tuple(tokens) for tokens in said[0]}) > 1


@pytest.mark.parametrize("name", ["idefics3", "qwen3_5"])
@pytest.mark.parametrize("asker", ["ours", "theirs"])
def test_tenants_never_meet(name: str, asker: str) -> None:
    """Who asks the same as somebody else waits as long as if nobody had; who asks it again does not."""
    family = family_of(name)
    *prompts, last = [prompt for prompt, _ in same_media(family, 4, "image")]
    slots = slots_of(family.model, **CACHES)
    asking(slots, *prompts)

    with tower_runs(family.model) as runs:
        answer = asking(slots, of_scope(last, asker))[0]

    assert bool(answer.num_cached_tokens) is (asker == "ours")
    assert bool(runs) is (asker == "theirs")


def test_words_about_other_media_are_not_answered_from_these() -> None:
    beginnings = beginnings_of("llava")
    prompt = beginnings.requests[5][0]
    other = with_other_media(prompt)
    slots = caching(beginnings)

    first, second = asking(slots, prompt, other)

    alone = asking(caching(beginnings), other)[0]
    assert second.num_cached_tokens == 0
    assert second.tokens == alone.tokens != first.tokens


def forget_media(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared_tokens(self: Content, other: Content) -> int:
        same = self.tokens[: other.num_tokens] == other.tokens[: self.num_tokens]
        return int(same.cumprod().sum())

    monkeypatch.setattr(Content, "shared_tokens", shared_tokens)
    monkeypatch.setattr("workers.model.prompting.content._chain", _chain_of_tokens(Content))


def _chain_of_tokens(_: type) -> Callable[..., tuple[bytes, ...]]:
    def chain(tokens: torch.Tensor, media: bytes, media_start: int, scope: str) -> tuple[bytes, ...]:
        return tuple(bytes(tokens[:stop]) for stop in range(16, len(tokens) + 1, 16))

    return chain


def cut_one_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = CutRules._worth
    monkeypatch.setattr(CutRules, "_worth", staticmethod(lambda prompt, cut: truth(prompt, cut - 1) and cut))
    truth_shared = Content.shared_tokens
    monkeypatch.setattr(Content, "shared_tokens", lambda self, other: truth_shared(self, other) + 1)


def cut_states_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CutRules, "can_cut", lambda self, num_tokens: True)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("llava", cut_one_too_late),
        ("qwen2_5_vl", cut_one_too_late),
        ("qwen3_5", cut_states_anywhere),
        ("minicpmv4_6", cut_states_anywhere),
    ],
)
def test_a_wrong_cut_is_found_out(
    name: str, spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    beginnings = beginnings_of(name)
    spoil(monkeypatch)
    sequences = sequences_of(beginnings.requests)

    together(caching(beginnings), sequences, ONE_A_STEP)

    assert [sequence.tokens for sequence in sequences] != beginnings.answers


def test_forgotten_media_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_media(monkeypatch)
    beginnings = beginnings_of("llava")
    prompt = scoped(dict(beginnings.requests[5][0].inputs))
    other = with_other_media(prompt)

    first, second = asking(caching(beginnings), prompt, other)

    assert second.num_cached_tokens > 0
    assert second.tokens == first.tokens != asking(caching(beginnings), other)[0].tokens


@pytest.mark.parametrize("name", ["idefics3", "qwen3_5"])
def test_what_is_not_finite_never_enters_a_cache(name: str) -> None:
    beginnings = beginnings_of(name)
    prompts = [prompt for prompt, _ in same_media(beginnings.family, 4, "image")]
    poisoned = [
        scoped(
            {
                name: torch.full_like(t, torch.nan) if t.is_floating_point() else t
                for name, t in p.inputs.items()
            }
        )
        for p in prompts
    ]
    slots = caching(beginnings)
    sequences = sequences_of([(prompt, 4) for prompt in poisoned])

    events = together(slots, sequences, AT_ONCE)

    assert broken(events) == dict.fromkeys(range(4), "model_failed")
    assert slots.cache_counters["prefix"].bytes_held == 0
    assert slots.cache_counters["encoder"].bytes_held == 0


def test_the_caches_keep_to_their_budgets_and_drop_what_was_longest_of_no_use() -> None:
    beginnings = beginnings_of("llava")
    generator = torch.Generator().manual_seed(7)
    family = beginnings.family
    strangers = [scoped(family.kinds["image"](generator, 30)) for _ in range(8)]
    probe = caching(beginnings)
    asking(probe, strangers[0])
    each = probe.cache_counters["prefix"].bytes_held
    slots = caching(beginnings, prefix_cache_bytes=3 * each)
    counters = slots.cache_counters["prefix"]
    for number, stranger in enumerate(strangers):
        asking(slots, stranger)
        if number:
            assert asking(slots, strangers[0])[0].num_cached_tokens > 0
        assert counters.bytes_held <= 3 * each

    assert counters.bytes_held == 3 * each
    assert counters.evictions == 5
    assert asking(slots, strangers[1])[0].num_cached_tokens == 0


def no_room(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def lay_out(*_: object) -> None:
        raise torch.OutOfMemoryError("no room to lay states side by side")

    monkeypatch.setattr("workers.model.caches.prefix_states.lay_out", lay_out)


def drops_states(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Phi-4 does with prompts beyond the length from which it turns positions another way."""
    truth = model.prepare_inputs_for_generation

    def prepare(ids: torch.Tensor, *, past_key_values: Cache, **inputs: object) -> object:
        return truth(
            ids, past_key_values=None if past_key_values.get_seq_length() else past_key_values, **inputs
        )

    monkeypatch.setattr(model, "prepare_inputs_for_generation", prepare)


@pytest.mark.parametrize("name", ["idefics3", "qwen3_5"])
@pytest.mark.parametrize("spoil", [no_room, drops_states])
def test_a_cache_that_fails_costs_no_request_its_answer(
    name: str,
    spoil: Callable[[PreTrainedModel, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    beginnings = beginnings_of(name)
    spoil(beginnings.family.model, monkeypatch)
    sequences = sequences_of(beginnings.requests)

    events = together(caching(beginnings), sequences, AT_ONCE)

    assert caplog.records
    assert broken(events) == {}
    assert [sequence.tokens for sequence in sequences] == beginnings.answers


def test_what_is_kept_of_a_prompt_lets_go_of_its_inputs() -> None:
    beginnings = beginnings_of("llava")
    ours = {name: tensor.clone() for name, tensor in beginnings.requests[5][0].inputs.items()}
    prompt, slots = scoped(ours), caching(beginnings)
    inputs = weakref.ref(prompt.inputs["input_ids"].untyped_storage())
    asking(slots, prompt)
    assert slots.cache_counters["prefix"].bytes_held > 0

    del prompt, ours
    gc.collect()

    assert inputs() is None


def test_without_a_budget_nothing_is_kept() -> None:
    slots = caching(beginnings_of("idefics3"), prefix_cache_bytes=0, encoder_cache_bytes=0)

    assert slots.cache_counters == {}
