"""Loading real checkpoints: precision, quantization, refusals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMultimodalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3VLMoeConfig,
)

from service.contract.media import MediaKind
from service.errors import ConfigurationError
from service.settings import BUNDLED_MODEL, Settings
from workers.model.loading import Loaded, LoadOptions, load
from workers.model.weights.devices import choose_device
from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.packed import PackedLinear
from workers.model.weights.panels import PanelLinear
from workers.model.weights.quantize import HqqOptions, describe, num_unquantized_experts

Bundled = Callable[..., Loaded]
Answer = Callable[..., str]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The bundled model in a folder that a test may spoil."""
    return Path(shutil.copytree(BUNDLED_MODEL, tmp_path / "copied"))


def quantized(folder: Path, **options: Any) -> PreTrainedModel:
    """A model as the quantizer leaves it, before kernels are chosen."""
    return AutoModelForMultimodalLM.from_pretrained(  # type: ignore[no-any-return]
        folder, dtype=torch.float32, **({"quantization_config": HqqOptions(**options)} if options else {})
    )


def hqq_layers(model: torch.nn.Module) -> dict[str, HqqLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, HqqLinear)}


def test_the_bundled_model_is_ready_to_run(bundled: Bundled) -> None:
    loaded = bundled()

    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.needs.takes == frozenset(MediaKind)
    assert (loaded.needs.num_frames, loaded.needs.audio_rate, loaded.needs.max_audio_seconds) == (
        4,
        16_000,
        30,
    )
    assert loaded.prompter.eos_ids == {1, 5}
    assert loaded.max_context_tokens == 4096
    assert "float32 on cpu, not quantized" in loaded.description
    json.dumps(loaded.provenance)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_answers_are_the_same(
    bits: int, bundled: Bundled, answer: Answer, requests: list[Any]
) -> None:
    full, small = bundled(), bundled(bits)

    assert [answer(small, request) for request in requests] == [answer(full, request) for request in requests]
    assert small.provenance["quantization"]["bits"] == bits
    assert f"HQQ {bits} bits in 28 layers" in small.description


def test_towers_heads_and_embeddings_are_not_quantized_by_default() -> None:
    layers = hqq_layers(quantized(BUNDLED_MODEL, bits=8))

    assert len(layers) == 28
    assert all(name.startswith("model.language_model.layers.") for name in layers)


def test_rules_choose_bits_by_layer_name() -> None:
    rules = {r"layers\.0\.mlp": 4, r"layers\.1\.": None}

    model = quantized(BUNDLED_MODEL, bits=8, rules=rules)

    bits = {name: layer.scheme.bits for name, layer in hqq_layers(model).items()}
    assert bits["model.language_model.layers.0.mlp.up_proj"] == 4
    assert bits["model.language_model.layers.0.self_attn.q_proj"] == 8
    assert not any(".layers.1." in name for name in bits)
    assert (describe(model) or {})["bits"] == [4, 8]


def test_every_weight_is_close_to_the_checkpoints() -> None:
    stored = load_file(BUNDLED_MODEL / "model.safetensors")
    layers = hqq_layers(quantized(BUNDLED_MODEL, bits=8))

    for name, layer in layers.items():
        weight = stored[f"{name}.weight"].float()
        assert (weight - layer.dequantize()).norm() < 0.01 * weight.norm(), name


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_a_quantized_checkpoint_is_saved_and_comes_back_bit_for_bit(bits: int, tmp_path: Path) -> None:
    first = quantized(BUNDLED_MODEL, bits=bits)
    first.save_pretrained(tmp_path)

    second = quantized(tmp_path)

    assert hqq_layers(second).keys() == hqq_layers(first).keys()
    expected = first.state_dict()
    assert second.state_dict().keys() == expected.keys()
    for name, tensor in second.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_checkpoint_that_is_stored_quantized_loads_as_it_is(copied: Path) -> None:
    quantized(BUNDLED_MODEL, bits=4).save_pretrained(copied)

    loaded = load(LoadOptions(model=str(copied), quant_bits=8))

    assert loaded.provenance["quantization"]["bits"] == 4
    assert loaded.provenance["quantization"]["num_layers"] == 28


def test_a_rule_leaves_experts_whole(tmp_path: Path) -> None:
    text = {
        "vocab_size": 64,
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]},
    }
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    config = Qwen3VLMoeConfig(text_config=text, vision_config={**vision, "deepstack_visual_indexes": [0]})
    AutoModelForMultimodalLM.from_config(config).save_pretrained(tmp_path)

    model = quantized(tmp_path, bits=8, rules={r"\.experts\.": None})

    assert num_unquantized_experts(model) == 1
    assert num_unquantized_experts(quantized(tmp_path, bits=8)) == 0
    assert {name.rpartition(".")[2] for name in hqq_layers(model)} == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_on_a_cpu_quantized_weights_are_rebuilt_once_in_the_faster_layout(bundled: Bundled) -> None:
    loaded = bundled(8)

    assert loaded.provenance["rebuilt_layers"] == 28
    kinds = {"torch": torch.nn.Linear, "onednn-packed": PackedLinear, "panels": PanelLinear}
    chosen = kinds[loaded.provenance["linear_kernel"]]
    assert (
        sum(type(module) is chosen and hasattr(module, "stored") for module in loaded.model.modules()) >= 24
    )
    assert (
        sum(isinstance(getattr(module, "stored", None), HqqLinear) for module in loaded.model.modules()) == 28
    )


def test_the_settings_say_what_to_load() -> None:
    options = LoadOptions.from_settings(Settings(quant_bits=4, dtype="bfloat16", device="cpu"))

    assert (options.model, options.quant_bits, options.dtype) == (str(BUNDLED_MODEL), 4, "bfloat16")


def test_a_chat_template_of_the_operators_replaces_the_models_own(tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text("{% for m in messages %}<{{ m['content'] }}>{% endfor %}")

    loaded = load(LoadOptions(model=str(BUNDLED_MODEL), chat_template=path))

    ids = loaded.prompter.prepare([{"role": "user", "content": "hi"}], []).inputs["input_ids"]
    assert loaded.prompter._original.tokenizer.decode(ids[0]) == "<hi>"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "banana"}, "no device 'banana'"),
        ({"device": "cuda:9"}, "The device cuda:9 is not here"),
        ({"dtype": "float8"}, "no dtype 'float8'"),
        ({"quant_bits": 5}, "cannot store 5 bits"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(LoadOptions(model=str(BUNDLED_MODEL), **options))

    assert sentence in refused.value.message
    assert refused.value.hint


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    loaded = load(LoadOptions(model=str(BUNDLED_MODEL), dtype="bfloat16", device="cpu"))

    assert loaded.model.dtype == torch.bfloat16
    assert choose_device("cpu") == torch.device("cpu")
    image = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    from workers.media.decoded import DecodedImage

    parts = [{"type": "image"}, {"type": "text", "text": "?"}]
    prepared = loaded.prompter.prepare([{"role": "user", "content": parts}], [DecodedImage(image, (8, 8))])
    assert prepared.inputs["pixel_values"].dtype == torch.bfloat16


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(copied: Path) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1 << 45], "data_offsets": [0, 1 << 46]}}).encode()
    (copied / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)

    with pytest.raises(ConfigurationError, match="does not fit the memory of cpu") as refused:
        load(LoadOptions(model=str(copied), quant_bits=4))

    assert refused.value.code == "out_of_memory"


@pytest.mark.parametrize("length", [0, 5, 1000, 100_000])
def test_weights_that_are_cut_off_are_refused(length: int, copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:length])

    with pytest.raises(ConfigurationError, match="damaged or incomplete"):
        load(LoadOptions(model=str(copied)))


@pytest.mark.parametrize("missing", ["tokenizer.json", "processor_config.json"])
def test_a_checkpoint_without_its_processor_is_refused(missing: str, copied: Path) -> None:
    (copied / missing).unlink()

    with pytest.raises(ConfigurationError, match="no processor that transformers can load"):
        load(LoadOptions(model=str(copied)))


def test_a_model_that_takes_no_media_is_refused(copied: Path) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(copied)

    with pytest.raises(ConfigurationError, match="family 'llama', which does not turn media into text"):
        load(LoadOptions(model=str(copied)))
