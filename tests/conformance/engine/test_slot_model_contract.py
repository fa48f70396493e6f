"""What the engine may expect of any slot model: the scripted one and the real one pass the same suite."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
import torch
from tiny_families.family import Family, words
from transformers import LlamaConfig, LlamaForCausalLM

from workers.engine.protocol import (
    Handle,
    Parked,
    Prefill,
    RowFailed,
    RowResult,
    Sampling,
    SlotModel,
    StepPlan,
    Token,
)
from workers.engine.scripted import ScriptedModel, ScriptedPrompt
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel
from workers.model.static_model import StaticModel

GREEDY = Sampling()


@dataclass
class Subject:
    """A slot model of four rows, prompts for it, and a prompt that fails in its prefill."""

    model: SlotModel
    prompt: Callable[[int], Handle]
    failing: Handle

    def run(self, **plan: object) -> list[RowResult]:
        return list(self.model.collect(self.model.launch(StepPlan(**plan))))  # type: ignore[arg-type]

    def prefill(self, *pairs: tuple[int, int]) -> dict[int, int]:
        """Prefill prompts into rows, given as (row, prompt number)."""
        return tokens_of(self.run(prefill=tuple(into(row, self.prompt(number)) for row, number in pairs)))

    def decode(self, *rows: int) -> dict[int, int]:
        return tokens_of(self.run(decode=rows))

    def answer(self, number: int, length: int) -> list[int]:
        """What prompt `number` says when it has row 0 and the model to itself."""
        tokens = [self.prefill((0, number))[0]]
        tokens += [self.decode(0)[0] for _ in range(length - 1)]
        self.run(free=(0,))
        return tokens


def into(row: int, prompt: Handle) -> Prefill:
    return Prefill(row, row, prompt, GREEDY)


def tokens_of(results: Iterable[RowResult]) -> dict[int, int]:
    tokens: dict[int, int] = {}
    for result in results:
        assert isinstance(result, Token), result
        assert result.row not in tokens
        tokens[result.row] = result.token
    return tokens


def parked_in(results: Iterable[RowResult]) -> Handle:
    return next(result.handle for result in results if isinstance(result, Parked))


def scripted() -> Subject:
    def prompt(number: int) -> ScriptedPrompt:
        return ScriptedPrompt(tuple(range(100 * number, 100 * number + 50)), num_tokens=5 + number)

    return Subject(ScriptedModel(4), prompt, ScriptedPrompt((1,), fails_at=0))


def slots() -> Subject:
    return real(TorchSlotModel)


def static() -> Subject:
    return real(StaticModel)


def real(serve: type[TorchSlotModel] | type[StaticModel]) -> Subject:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.model.embed_tokens.weight[255] = torch.nan

    def prompt(number: int) -> Prepared:
        return Prepared({"input_ids": words(torch.Generator().manual_seed(number), 5 + number)})

    served = serve(model, num_slots=4, max_context_tokens=128, eos_ids=frozenset())
    return Subject(served, prompt, Prepared({"input_ids": torch.tensor([[7, 255]])}))


@pytest.fixture(params=[scripted, slots, static])
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = request.param()
    return made


@pytest.fixture
def parking(subject: Subject) -> Subject:
    """Those that can park."""
    if not subject.model.can_park:
        pytest.skip("a row of a static batch stays in it")
    return subject


def test_every_prompt_draws_its_first_token_in_its_prefill(subject: Subject) -> None:
    assert set(subject.prefill((0, 1), (1, 2), (2, 3))) == {0, 1, 2}


def test_every_decoded_row_draws_one_token(subject: Subject) -> None:
    subject.prefill((0, 1), (1, 2), (3, 3))

    assert set(subject.decode(0, 1, 3)) == {0, 1, 3}


def test_a_row_prefilled_in_a_step_is_not_decoded_in_it_too(subject: Subject) -> None:
    subject.prefill((0, 1))

    results = subject.run(prefill=(into(2, subject.prompt(2)),), decode=(0,))

    assert set(tokens_of(results)) == {0, 2}
    assert len(results) == 2


def test_an_answer_depends_on_neither_row_nor_neighbours(subject: Subject) -> None:
    lonely = subject.answer(1, length=6)

    crowded = [subject.prefill((3, 1), (0, 2), (1, 4))[3]]
    for _ in range(5):
        crowded.append(subject.decode(0, 1, 3)[3])

    assert crowded == lonely


def test_a_row_is_free_for_another_prompt_in_the_same_step(subject: Subject) -> None:
    wanted = subject.answer(2, length=3)
    subject.prefill((0, 1), (1, 3))

    first = tokens_of(subject.run(free=(0,), prefill=(into(0, subject.prompt(2)),), decode=(1,)))

    assert [first[0], subject.decode(0, 1)[0], subject.decode(0, 1)[0]] == wanted


def test_rows_stay_what_they_are_when_others_leave(subject: Subject) -> None:
    wanted = subject.answer(3, length=5)
    said = [subject.prefill((0, 1), (1, 2), (2, 3))[2]]
    said.append(subject.decode(0, 1, 2)[2])
    subject.run(free=(0,))
    said.append(subject.decode(1, 2)[2])
    said.append(tokens_of(subject.run(free=(1,), decode=(2,)))[2])
    said.append(subject.decode(2)[2])

    assert said == wanted


def test_a_parked_row_goes_on_in_any_row(parking: Subject) -> None:
    wanted = parking.answer(1, length=6)
    said = [parking.prefill((0, 1), (1, 2))[0], parking.decode(0, 1)[0]]
    handle = parked_in(parking.run(park=(0,), decode=(1,)))
    parking.run(prefill=(into(0, parking.prompt(3)),), decode=(1,))
    said.append(tokens_of(parking.run(restore=((3, handle),), decode=(0, 1, 3)))[3])
    said += [parking.decode(0, 1, 3)[3] for _ in range(3)]

    assert said == wanted


def test_a_parked_row_tells_how_many_positions_it_takes(parking: Subject) -> None:
    parking.prefill((0, 1))
    parking.decode(0)

    handle = parked_in(parking.run(park=(0,)))

    # Six of the prompt and one drawn token; the last drawn token is not written yet.
    assert handle.num_tokens == 7


def test_a_parked_rows_slot_is_free_in_the_same_step(parking: Subject) -> None:
    wanted = parking.answer(3, length=2)
    parking.prefill((0, 1))

    results = parking.run(park=(0,), prefill=(into(0, parking.prompt(3)),))
    tokens = tokens_of(result for result in results if not isinstance(result, Parked))

    assert [tokens[0], parking.decode(0)[0]] == wanted


def test_a_failing_prompt_fails_alone(subject: Subject) -> None:
    wanted = subject.answer(1, length=2)

    results = subject.run(prefill=(into(0, subject.failing), into(1, subject.prompt(1))))

    assert [result.code for result in results if isinstance(result, RowFailed)] == ["model_failed"]
    said = tokens_of(result for result in results if isinstance(result, Token))
    assert set(said) == {1}
    assert [said[1], tokens_of(subject.run(free=(0,), decode=(1,)))[1]] == wanted


def test_freeing_a_row_that_holds_nothing_is_harmless(subject: Subject) -> None:
    subject.prefill((1, 1))

    assert set(tokens_of(subject.run(free=(0, 3), decode=(1,)))) == {1}


def test_decoding_a_row_that_holds_nothing_is_refused(subject: Subject) -> None:
    subject.prefill((1, 1))

    with pytest.raises(ValueError, match="holds nothing"):
        subject.run(decode=(0, 1))


def test_a_row_cannot_be_taken_twice(subject: Subject) -> None:
    subject.prefill((1, 1))

    with pytest.raises(ValueError, match="already held"):
        subject.run(prefill=(into(1, subject.prompt(2)),))


def test_rows_of_a_static_batch_are_decoded_together_and_stay() -> None:
    subject = static()
    subject.prefill((0, 1), (1, 2))

    with pytest.raises(ValueError, match="together"):
        subject.decode(0)
    with pytest.raises(ValueError, match="cannot be moved"):
        subject.run(park=(0,))


def test_families_hand_their_prompts_over_as_handles(family: Family) -> None:
    prompt = family.request(torch.Generator().manual_seed(0), 6)

    assert prompt.num_tokens == prompt.inputs["input_ids"].shape[1]
    assert prompt.num_bytes == sum(tensor.nbytes for tensor in prompt.inputs.values())
