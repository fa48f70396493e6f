"""HQQ: the engine says what the quantized model itself would, and what was quantized is what was asked for."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from answers import alone, broken, decided_answer, sequences_of, slots_of, together
from mixtures import MIXTURES, family_of
from tiny_families import FAMILIES
from transformers import AutoModelForMultimodalLM, PreTrainedModel

from workers.engine.config import EngineConfig
from workers.model.prompting.prepared import Prepared
from workers.model.weights.hqq_experts import HqqExperts
from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.packed import PackedLinear, choose_linears
from workers.model.weights.quantize import HqqOptions, describe, num_unquantized_experts

DENSE = ("gemma4", "qwen2_5_vl")
BITS = (8, 4, 3, 2, 1)
# Of a projection's weight on the tiny models' weights, groups of 64 and 32: measured 0.005, 0.08, 0.17, 0.42, 0.57.
MAX_ERROR = {8: 0.008, 4: 0.1, 3: 0.21, 2: 0.5, 1: 0.65}

Request: TypeAlias = tuple[Prepared, int]
Quantize: TypeAlias = Callable[..., PreTrainedModel]


@pytest.fixture(scope="module")
def quantize(tmp_path_factory: pytest.TempPathFactory) -> Quantize:
    """A family's checkpoint, quantized while it loads."""

    @cache
    def saved(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        family_of(name).model.save_pretrained(folder)
        return folder

    def load(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForMultimodalLM.from_pretrained(
            saved(name), dtype=dtype, quantization_config=HqqOptions(**options)
        )
        assert model.generation_config is not None
        model.generation_config.eos_token_id = None
        return model.eval()

    return load


def asked(name: str, model: PreTrainedModel, count: int = 5) -> tuple[list[Request], list[list[int]]]:
    """Requests of every kind that no rounding decides, and what `model` answers to each alone."""
    family, generator = family_of(name), torch.Generator().manual_seed(1)
    kinds = list(family.kinds)
    requests: list[Request] = []
    answers: list[list[int]] = []
    for number in range(10 * count):
        request = family.request(generator, 5 + number % 20, kinds[number % len(kinds)]), 6 + number % 9
        answer = decided_answer(model, *request)
        if answer is not None:
            requests.append(request)
            answers.append(answer)
        if len(requests) == count:
            return requests, answers
    raise AssertionError(f"{name} leaves too many answers undecided")


@pytest.mark.parametrize("name", [*DENSE, *MIXTURES])
@pytest.mark.parametrize("bits", BITS)
def test_the_engine_answers_as_the_quantized_model_does(name: str, bits: int, quantize: Quantize) -> None:
    model = quantize(name, bits=bits)
    requests, answers = asked(name, model)
    sequences = sequences_of(requests)

    events = together(slots_of(model, num_slots=3), sequences, EngineConfig(prefill_group=3))

    assert broken(events) == {}
    assert [sequence.tokens for sequence in sequences] == answers


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl_moe", "llama4"])
@pytest.mark.parametrize("kernel", ["torch", "onednn-packed", "int4"])
def test_the_engine_answers_as_the_model_does_on_every_kernel(
    name: str, kernel: str, quantize: Quantize
) -> None:
    model = quantize(name, bits=4)
    requests, answers = asked(name, model, 4)

    choice = choose_linears(model, kernel)
    sequences = sequences_of(requests)
    together(slots_of(model, num_slots=3), sequences)

    assert choice.num_int4 > 0 if kernel == "int4" else choice.num_rebuilt > 0
    assert [alone(model, *request) for request in requests] == answers
    assert [sequence.tokens for sequence in sequences] == answers


@pytest.mark.parametrize("name", MIXTURES)
def test_a_negative_control_of_experts_is_found_out(
    name: str, quantize: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expert that computes with its neighbour's weight changes the answers, so equal ones mean something."""
    model = quantize(name, bits=8)
    requests, answers = asked(name, model, 2)
    truth = HqqExperts.dequantize
    monkeypatch.setattr(HqqExperts, "dequantize", lambda self, expert: truth(self, (expert + 1) % 4))

    assert [alone(model, *request) for request in requests] != answers


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("bits", BITS)
def test_every_expert_is_close_to_its_weight_and_takes_its_share_of_memory(
    name: str, bits: int, quantize: Quantize
) -> None:
    original = dict(family_of(name).model.named_parameters())
    model = quantize(name, bits=bits, organization="moqe")

    projections = {n: m for n, m in model.named_modules() if isinstance(m, HqqExperts)}

    assert len(projections) == 8
    assert num_unquantized_experts(model) == 0
    assert [n for n, m in model.named_modules() if isinstance(m, HqqLinear)] == []
    for path, projection in projections.items():
        weights = original[path.replace("quantized_", "")]
        for expert, weight in enumerate(weights.transpose(1, 2) if name == "llama4" else weights):
            error = (projection.dequantize(expert) - weight).norm() / weight.norm()
            assert error < MAX_ERROR[bits]
    facts = describe(model)
    assert facts is not None
    assert facts["num_weights"] == sum(p.numel() for n, p in original.items() if ".experts." in n)
    # Besides the bits a scale and a zero for each group of 32 or 64 numbers; three bits waste a fifteenth.
    assert facts["num_bytes"] * 8 / facts["num_weights"] < bits * 1.1 + 2 * 32 / 32


@pytest.mark.parametrize("name", [*FAMILIES, "gemma4_moe"])
def test_every_family_is_saved_quantized_and_comes_back_bit_for_bit(
    name: str, quantize: Quantize, tmp_path: Path
) -> None:
    first = quantize(name, torch.bfloat16, bits=3)
    first.save_pretrained(tmp_path)

    second, found = AutoModelForMultimodalLM.from_pretrained(
        tmp_path, dtype=torch.bfloat16, output_loading_info=True
    )

    assert not any(found.values())
    expected, came = first.state_dict(), second.state_dict()
    assert expected.keys() == came.keys()
    for key, tensor in expected.items():
        assert torch.equal(tensor, came[key]), key
    inputs = family_of(name).request(torch.Generator().manual_seed(0), 12, "text").inputs
    # Where a tensor begins in memory may turn a rounding.
    torch.testing.assert_close(first(**inputs).logits, second(**inputs).logits, rtol=0.05, atol=0.05)


def quantized_layers(model: PreTrainedModel) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, HqqLinear)}


def test_towers_heads_and_routers_are_quantized_when_they_are_asked_for(quantize: Quantize) -> None:
    default = quantized_layers(quantize("gemma4_moe", bits=8))
    everything = quantized_layers(quantize("gemma4_moe", bits=8, skip=()))
    routers = {f"model.language_model.layers.{layer}.router.proj" for layer in range(4)}

    assert not any("vision" in name or "embed" in name for name in default | routers & default)
    # Three of this router's groups do not fill a byte of eight: four rows of 64 numbers at one bit stay as they are.
    assert routers <= everything
    assert any("vision_tower" in name for name in everything)
    assert quantized_layers(quantize("gemma4_moe", bits=8, rules={"router": 8})) - default == routers


def test_a_head_of_its_own_is_quantized_when_it_is_asked_for_and_a_tied_one_never(
    quantize: Quantize,
) -> None:
    """A tied head is the embedding, which looks rows up and cannot be stored in groups."""
    assert "lm_head" in quantized_layers(quantize("qwen3_vl_moe", bits=4, rules={"^lm_head$": 8}))
    assert "lm_head" not in quantized_layers(quantize("qwen3_vl_moe", bits=4))
    assert "lm_head" not in quantized_layers(quantize("gemma4", bits=4, rules={"^lm_head$": 8}))


def test_a_rule_that_matches_nothing_is_told(quantize: Quantize, caplog: pytest.LogCaptureFixture) -> None:
    quantize("qwen3_vl_moe", bits=8, rules={r"\.experts\.": 4, "expertz": 2})

    assert "'expertz' matches no layer" in caplog.text
    assert "experts\\." not in caplog.text


def test_rules_reach_single_projections_of_experts(quantize: Quantize) -> None:
    """One stays whole, and the block computes with both kinds."""
    model = quantize("qwen3_vl_moe", bits=8, rules={r"experts\.down_proj": None})
    requests, answers = asked("qwen3_vl_moe", model, 3)
    sequences = sequences_of(requests)

    together(slots_of(model), sequences)

    projections = [n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, HqqExperts)]
    assert set(projections) == {"quantized_gate_up_proj"}
    assert [sequence.tokens for sequence in sequences] == answers


@pytest.mark.parametrize("name", [*DENSE, *MIXTURES])
def test_a_quantized_model_computes_as_the_full_one_would_with_its_weights(
    name: str, quantize: Quantize
) -> None:
    small = quantize(name, bits=4)
    full = deepcopy(family_of(name).model)
    num_written = 0
    for path, module in small.named_modules():
        if isinstance(module, HqqLinear):
            full.get_submodule(path).weight.data.copy_(module.dequantize())
        elif isinstance(module, HqqExperts):
            weights = torch.stack([module.dequantize(expert) for expert in range(module.num_experts)])
            parameter = full.get_parameter(path.replace("quantized_", ""))
            parameter.data.copy_(weights.transpose(1, 2) if name == "llama4" else weights)
        num_written += isinstance(module, HqqLinear | HqqExperts)
    inputs = family_of(name).request(torch.Generator().manual_seed(0), 20).inputs

    torch.testing.assert_close(small(**inputs).logits, full(**inputs).logits, rtol=1e-3, atol=1e-3)
    assert num_written == (describe(small) or {})["num_layers"] > 0


def test_rebuilt_experts_are_packed_one_by_one(quantize: Quantize) -> None:
    model = quantize("llama4", bits=4)

    choose_linears(model, "onednn-packed")

    for module in model.modules():
        if isinstance(module, HqqExperts):
            assert module.rebuilt is not None
            assert {type(layer) for layer in module.rebuilt} == {PackedLinear}
