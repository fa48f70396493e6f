"""Muon for the weight matrices and AdamW for everything else, averaged over the training processes."""

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.nn import Parameter

NOT_MATRICES = ("embed_tokens", "position_embedding", "heads.")
MOMENTUM = 0.95
WEIGHT_DECAY = 0.02


class Optimizer:
    """Muon (Newton-Schulz batched over equal shapes) with AdamW beside it; one learning rate each."""

    def __init__(self, named: Iterable[tuple[str, Parameter]], *, muon_rate: float, adam_rate: float) -> None:
        self.muon_rate, self.adam_rate = muon_rate, adam_rate
        self.parameters: list[Parameter] = []
        self.matrices: dict[tuple[int, int], list[tuple[Parameter, torch.Tensor]]] = {}
        others: list[Parameter] = []
        for name, parameter in named:
            self.parameters.append(parameter)
            if parameter.ndim == 2 and not any(part in name for part in NOT_MATRICES):
                shape = (min(parameter.shape), max(parameter.shape))
                self.matrices.setdefault(shape, []).append((parameter, torch.zeros_like(parameter)))
            else:
                others.append(parameter)
        self.adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Move all parameters by their gradients, both learning rates times `factor`; clears the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_rate * factor
        self.adam.step()
        for (short, long), members in self.matrices.items():
            moves = orthogonalized(torch.stack([_wide(_nudge(p, m), short) for p, m in members]))
            rate = self.muon_rate * factor
            for (parameter, _), move in zip(members, moves, strict=True):
                parameter.mul_(1 - rate * WEIGHT_DECAY)
                parameter.add_(
                    move if parameter.shape[0] == short else move.T, alpha=-rate * 0.2 * math.sqrt(long)
                )
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> dict[str, object]:
        """Everything a restart needs beside the weights."""
        return {
            "adam": self.adam.state_dict(),
            "momenta": [m for ms in self.matrices.values() for _, m in ms],
        }

    def restore(self, state: dict[str, object]) -> None:
        """Continue from what `state` gave."""
        self.adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        momenta = [m for ms in self.matrices.values() for _, m in ms]
        saved = state["momenta"]
        assert isinstance(saved, list)
        for momentum, value in zip(momenta, saved, strict=True):
            momentum.copy_(value)


def _nudge(parameter: Parameter, momentum: torch.Tensor) -> torch.Tensor:
    gradient = parameter.grad
    assert gradient is not None
    momentum.lerp_(gradient, 1 - MOMENTUM)
    return gradient.lerp(momentum, MOMENTUM)


def _wide(matrix: torch.Tensor, short: int) -> torch.Tensor:
    return matrix if matrix.shape[0] == short else matrix.T


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with all singular values near 1, by five Newton-Schulz steps. matrices: [n, short, long]."""
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445
        )
    return x.float()


def average(parameters: list[Parameter], extra: torch.Tensor, world: int) -> torch.Tensor:
    """Average the gradients over all processes and return the sum of `extra`; an untouched parameter counts as zero."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world == 1:
        return extra
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients] + [extra * world])
    dist.all_reduce(flat)
    flat /= world
    pieces = torch.split(flat, [*(g.numel() for g in gradients), extra.numel()])
    for gradient, piece in zip(gradients, pieces, strict=False):
        gradient.copy_(piece.view_as(gradient))
    return pieces[-1]


def schedule(step: int, num_steps: int, warmup: int, flat: float) -> float:
    """Learning rate factor: a warm-up, constant for the fraction `flat` of the steps, then half a cosine to 2 %."""
    fraction = step / num_steps
    rise = min(1.0, (step + 1) / warmup)
    if fraction < flat:
        return rise
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (fraction - flat) / (1 - flat))))
