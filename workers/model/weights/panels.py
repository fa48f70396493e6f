"""Linear layers on weights in panels, by a kernel of ours: on some processors the fastest in float32 on a CPU."""

from functools import partial

import torch
from torch import Tensor, nn

from workers.model.kernels.library import load_kernels, run_in_parts
from workers.model.weights.hqq_linear import HqqLinear

# Outputs that lie side by side in one panel; the kernel's own number.
PANEL = 64
# What the kernel does to a sum before it is written, by its number.
ACTIVATIONS = ("none", "silu", "gelu_tanh", "relu")


class PanelLinear(nn.Module):
    """y = act(x Wᵀ + b), float32, for inference. A row says the same, to the last bit, in any company.

    `stored` is the quantized layer that the weight was rebuilt from, if there is one: it stays the truth.
    """

    panels: Tensor
    padded_bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, stored: HqqLinear | None = None) -> None:
        super().__init__()
        kernels = load_kernels()
        if kernels is None:
            raise RuntimeError("the kernels were not built")
        self._kernel = kernels.linear
        self.out_features, self.in_features = weight.shape
        self.stored = stored
        self.activation = ACTIVATIONS.index("none")
        self.register_buffer("panels", to_panels(weight), persistent=False)
        padded = None if bias is None else nn.functional.pad(bias.detach(), (0, -self.out_features % PANEL))
        self.register_buffer("padded_bias", padded, persistent=False)

    @property
    def weight(self) -> Tensor:
        """For model code that looks at its layers' weights."""
        return self.panels.transpose(1, 2).reshape(-1, self.in_features)[: self.out_features]

    @property
    def bias(self) -> Tensor | None:
        """For model code that looks at its layers' biases."""
        return None if self.padded_bias is None else self.padded_bias[: self.out_features]

    def forward(self, x: Tensor) -> Tensor:
        # The kernel reads what it is told is there.
        if x.shape[-1] != self.in_features or x.dtype != torch.float32 or x.device.type != "cpu":
            raise ValueError(
                f"{self.in_features} inputs in float32 on a CPU are wanted, "
                f"not {x.shape[-1]} in {x.dtype} on {x.device}"
            )
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self.out_features)
        num_rows = x.numel() // self.in_features
        panels, bias = self.panels, self.padded_bias
        call = partial(
            self._kernel,
            x.data_ptr(),
            panels.data_ptr(),
            None if bias is None else bias.data_ptr(),
            out.data_ptr(),
            num_rows,
            self.in_features,
            self.out_features,
            self.activation,
        )
        run_in_parts(call, len(panels), num_rows * self.in_features * self.out_features)
        return out

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, activation={ACTIVATIONS[self.activation]}"


def can_use_panels(dtype: torch.dtype) -> bool:
    """Whether the kernel was built, and computes in this precision."""
    return dtype == torch.float32 and load_kernels() is not None


def to_panels(weight: Tensor) -> Tensor:
    """`weight` [out, in] as [panels, in, 64], the last panel filled up with zeros."""
    filled = nn.functional.pad(weight.detach(), (0, 0, 0, -weight.shape[0] % PANEL))
    return filled.view(-1, PANEL, weight.shape[1]).transpose(1, 2).contiguous()
