"""The slots on a CUDA device, one step in flight: the same tokens as alone, and memory that runs out for one alone."""

from collections.abc import Iterator

import pytest

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Broken, EngineEvent, Sampling, Sequence
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def model() -> Iterator[PreTrainedModel]:
    """A random text model in float32, without TF32, so that equality can be asked for."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    made = LlamaForCausalLM._from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(3)
    made.generation_config.eos_token_id = None
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield made.to("cuda")
    torch.backends.cuda.matmul.allow_tf32 = before


def prompt(number: int) -> Prepared:
    generator = torch.Generator().manual_seed(number)
    return Prepared({"input_ids": torch.randint(5, 500, (1, 4 + number * 7 % 23), generator=generator)})


def run(model: PreTrainedModel, sequences: list[Sequence], num_slots: int = 4) -> list[EngineEvent]:
    slots = TorchSlotModel(model, num_slots=num_slots, max_context_tokens=128, eos_ids=frozenset())
    assert slots.runs_ahead
    engine = Engine(slots, EngineConfig(prefill_group=2))
    events: list[EngineEvent] = []
    for sequence in sequences:
        engine.submit(sequence)
    while engine.has_work:
        events += engine.step()
    return events


def test_one_step_in_flight_stays_exact(model: PreTrainedModel) -> None:
    sequences = [Sequence(n, prompt(n), Sampling(max_tokens=5 + n * 3 % 17)) for n in range(12)]
    expected = []
    for sequence in sequences:
        ids = prompt(sequence.id).inputs["input_ids"].cuda()
        output = model.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=sequence.sampling.max_tokens,
            do_sample=False,
        )
        expected.append(output[0, ids.shape[1] :].tolist())

    run(model, sequences)

    assert [sequence.tokens for sequence in sequences] == expected


def test_a_seed_says_the_same_alone_and_in_a_batch(model: PreTrainedModel) -> None:
    crowd = [
        Sequence(n, prompt(n), Sampling(temperature=0.8, top_p=0.9, seed=n, max_tokens=12)) for n in range(6)
    ]
    single = Sequence(0, prompt(3), crowd[3].sampling)

    run(model, crowd)
    run(model, [single], num_slots=1)

    assert single.tokens == crowd[3].tokens


def test_a_prompt_that_does_not_fit_the_device_fails_alone(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = model.forward

    def forward(*arguments: object, **inputs: torch.Tensor) -> object:
        if inputs["input_ids"].shape[1] > 1 and bool((inputs["input_ids"] == 511).any()):
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
        return truth(*arguments, **inputs)

    monkeypatch.setattr(model, "forward", forward)
    sequences = [Sequence(n, prompt(n), Sampling(max_tokens=6)) for n in range(4)]
    sequences[2].prompt = Prepared({"input_ids": torch.tensor([[7, 511, 9, 10]])})

    events = run(model, sequences)

    assert {event.sequence.id: event.code for event in events if isinstance(event, Broken)} == {
        2: "out_of_memory"
    }
    assert all(len(sequence.tokens) == 6 for sequence in sequences if sequence.id != 2)
