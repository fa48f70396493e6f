"""A model whose layers keep keys, values and states at once: a kind of memory that no slot holds."""

from functools import cache

import torch
from transformers import FalconH1Config, FalconH1ForCausalLM, PreTrainedModel

from workers.model.prompting.prepared import Prepared


@cache
def falcon_h1() -> PreTrainedModel:
    """Two layers of attention beside a state space, with random weights."""
    torch.manual_seed(0)
    config = FalconH1Config(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        mamba_d_ssm=64,
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_n_groups=1,
        mamba_d_state=16,
        mamba_chunk_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    model: PreTrainedModel = FalconH1ForCausalLM._from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(3)
    return model.eval()


def ragged_prompts(count: int) -> list[tuple[Prepared, int]]:
    """Prompts of words, with as many tokens as each shall draw."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(5 + 3 * number % 11, 6 + 5 * number % 9) for number in range(count)]
    return [
        (Prepared({"input_ids": torch.randint(5, 240, (1, length), generator=generator)}), num_tokens)
        for length, num_tokens in sizes
    ]
