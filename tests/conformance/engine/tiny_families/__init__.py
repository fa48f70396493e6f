"""Random checkpoints of every family, small enough to build in a blink, and requests for them as raw tensors."""

from collections.abc import Callable

from tiny_families.family import Family
from tiny_families.gemma import gemma3, gemma3n, gemma4, gemma4_experts
from tiny_families.idefics import idefics2, idefics3, smolvlm
from tiny_families.llama import llama4, mllama
from tiny_families.llava import llava, llava_next, mistral3, pixtral
from tiny_families.minicpm import minicpmv4_6
from tiny_families.omni import qwen2_5_omni, qwen3_omni_moe
from tiny_families.qwen import qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_5_moe, qwen3_vl, qwen3_vl_moe
from tiny_families.speech import phi4_multimodal, voxtral

_BUILDERS: tuple[Callable[[], Family], ...] = (
    gemma3,
    gemma3n,
    gemma4,
    idefics2,
    idefics3,
    smolvlm,
    llava,
    llava_next,
    mllama,
    llama4,
    mistral3,
    pixtral,
    phi4_multimodal,
    qwen2_vl,
    qwen2_5_vl,
    qwen3_vl,
    qwen3_vl_moe,
    qwen3_5,
    qwen3_5_moe,
    voxtral,
    minicpmv4_6,
    qwen2_5_omni,
    qwen3_omni_moe,
)
FAMILIES: dict[str, Callable[[], Family]] = {builder.__name__: builder for builder in _BUILDERS}
# Other shapes of the same families.
VARIANTS: dict[str, Callable[[], Family]] = {"gemma4_experts": gemma4_experts}
