"""Drawing one token a row from its logits; what one row draws never depends on the others.

Noise is a hash of (seed, how many tokens the row has drawn, token id), turned into Gumbel noise: the token with the
largest noisy logit is a draw from the softmax. Nothing is cut off that the request did not ask to cut off: the 256
best candidates are used only for rows whose top_k or top_p provably ends among them; the others are sorted further.

Everywhere: logits [rows, vocabulary] in float32; reals [rows, 3], temperature, top_p, min_p; ints [rows, 4], two words
of the seed, tokens drawn so far, top_k.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from workers.engine.protocol import Sampling

NUM_CANDIDATES, MORE_CANDIDATES = 256, 8192
# Colder than this, logits would leave float32.
_COLDEST = 1e-4
_WORD = 0xFFFFFFFF
_JUST_BELOW_ONE = 1 - 2.0**-24
# Logits that a core's cache holds several times.
_CACHED = 1 << 17

DrawRows: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def reals_of(sampling: Sampling) -> tuple[float, float, float]:
    """A request's row of `reals`."""
    return max(sampling.temperature, _COLDEST), sampling.top_p, sampling.min_p


def ints_of(sampling: Sampling, drawn: int) -> tuple[int, int, int, int]:
    """A request's row of `ints`. drawn: tokens that it has already drawn."""
    return *_seed_words(sampling.seed), drawn, sampling.top_k


def drawing_of(sampling: Sampling) -> DrawRows | None:
    """What draws a request's token; None is the largest logit."""
    if sampling.temperature <= 0:
        return None
    if sampling.top_k > 0 or sampling.top_p < 1:
        return draw_narrowed
    return draw_likely if sampling.min_p > 0 else draw_whole


def draw_whole(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    """Draw from the whole vocabulary."""
    return _by_rows(_draw_whole, logits, reals, ints)


def draw_likely(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    """Draw from what min_p leaves of the vocabulary."""
    return _by_rows(_draw_likely, logits, reals, ints)


def draw_narrowed(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    """Draw from what top_k, then top_p, then min_p leave."""
    scaled = logits / reals[:, :1]
    if logits.is_cuda or logits.shape[1] <= NUM_CANDIDATES:
        # On a GPU a whole sort costs less than asking whether it could have been avoided.
        return _draw_sorted(scaled, logits.shape[1], reals, ints)[0]
    tokens, covered = _draw_sorted(scaled, NUM_CANDIDATES, reals, ints)
    for num_candidates in (min(MORE_CANDIDATES, logits.shape[1]), logits.shape[1]):
        (rest,) = (~covered).nonzero(as_tuple=True)
        if len(rest) == 0:
            break
        tokens[rest], covered[rest] = _draw_sorted(scaled[rest], num_candidates, reals[rest], ints[rest])
    return tokens


def _by_rows(draw: DrawRows, logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    """Draw from a few rows at a time: what a CPU does to them then stays in its cache."""
    num_rows = max(1, _CACHED // logits.shape[1])
    if logits.is_cuda or len(logits) <= num_rows:
        return draw(logits, reals, ints)
    parts = zip(*(torch.split(held, num_rows) for held in (logits, reals, ints)), strict=True)
    return torch.cat([draw(*part) for part in parts])


def _draw_whole(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    return (logits / reals[:, :1]).add_(gumbel(ints, _every_id(logits))).argmax(dim=-1)


def _draw_likely(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    scaled = logits / reals[:, :1]
    weakest = scaled.amax(dim=-1, keepdim=True) + reals[:, 2:].log()
    noisy = (scaled + gumbel(ints, _every_id(logits))).masked_fill_(scaled < weakest, -math.inf)
    return noisy.argmax(dim=-1)


def _every_id(logits: torch.Tensor) -> torch.Tensor:
    return torch.arange(logits.shape[1], device=logits.device)[None]


def _draw_sorted(
    scaled: torch.Tensor, num_candidates: int, reals: torch.Tensor, ints: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw among the best candidates. Also returns whether nothing beyond them could have been kept."""
    best, ids = scaled.topk(num_candidates, dim=-1)
    top_p, min_p, top_k = reals[:, 1:2], reals[:, 2:3], ints[:, 3:4]
    has_top_k = top_k > 0
    ranked = torch.arange(num_candidates, device=scaled.device)[None]
    within_k = (ranked < top_k) | ~has_top_k
    among_k = best.masked_fill(~within_k, -math.inf).logsumexp(dim=-1, keepdim=True)
    total = torch.where(has_top_k, among_k, scaled.logsumexp(dim=-1, keepdim=True))
    shares = (best - total).exp()
    reached = shares.cumsum(dim=-1)
    kept = within_k & (reached - shares < top_p) & (shares >= min_p * shares[:, :1])
    kept[:, 0] = True
    noisy = (best + gumbel(ints, ids)).masked_fill_(~kept, -math.inf)
    covered = (has_top_k & (top_k <= num_candidates)) | (reached[:, -1:] >= top_p)
    return ids.gather(1, noisy.argmax(dim=-1, keepdim=True))[:, 0], covered[:, 0]


def gumbel(ints: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Noise of each row and token id: [rows, ids]."""
    draw = ints[:, 2:3]
    first = _mix(ints[:, 0:1] ^ _mix((draw * 0x9E3779B1) & _WORD)).int()
    second = _mix(ints[:, 1:2] + draw).int()
    # The mixing of `_mix` on 32-bit words, whose products overflow, with the second key halfway.
    word = ids.int() * _signed(0x85EBCA77) + first
    word ^= (word >> 16) & 0xFFFF
    word *= _signed(0x7FEB352D)
    word ^= second
    word ^= (word >> 15) & 0x1FFFF
    word *= _signed(0x846CA68B)
    word ^= (word >> 16) & 0xFFFF
    # Rare large noise comes from small numbers, where float32 is fine enough; one is never reached.
    uniform = (word & 0x7FFFFFFF).float().add_(0.5).mul_(_JUST_BELOW_ONE / 2.0**31)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _signed(word: int) -> int:
    """The 32-bit integer of the same bits."""
    return word - (1 << 32) if word >= 1 << 31 else word


def _mix(word: torch.Tensor) -> torch.Tensor:
    """Scramble 32-bit words held in int64; a bijection (constants: C. Wellons, 'lowbias32')."""
    word = word & _WORD
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & _WORD
    word = ((word ^ (word >> 15)) * 0x846CA68B) & _WORD
    return word ^ (word >> 16)


def _seed_words(seed: int) -> tuple[int, int]:
    """Spread any integer over two 32-bit words (the finalizer of splitmix64)."""
    word = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    word ^= word >> 31
    return word & _WORD, word >> 32
