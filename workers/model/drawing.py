"""Drawing one token a row from its logits; what one row draws never depends on the others.

Noise is a hash of (seed, how many tokens the row has drawn, token id), turned into Gumbel noise: the token with the
largest noisy logit is a draw from the softmax. Nothing is cut off that the request did not ask to cut off: the 256
best candidates are used only for rows whose top_k or top_p provably ends among them; the others are sorted whole.

Everywhere: logits [rows, vocabulary] in float32; reals [rows, 3], temperature, top_p, min_p; ints [rows, 4], two words
of the seed, tokens drawn so far, top_k.
"""

import math

import torch

from workers.engine.protocol import Sampling

NUM_CANDIDATES = 256
# Colder than this, logits would leave float32.
_COLDEST = 1e-4
_WORD = 0xFFFFFFFF


def reals_of(sampling: Sampling) -> tuple[float, float, float]:
    """A request's row of `reals`."""
    return max(sampling.temperature, _COLDEST), sampling.top_p, sampling.min_p


def ints_of(sampling: Sampling, drawn: int) -> tuple[int, int, int, int]:
    """A request's row of `ints`. drawn: tokens that it has already drawn."""
    return *_seed_words(sampling.seed), drawn, sampling.top_k


def narrows(sampling: Sampling) -> bool:
    """Whether a request looks at the order of tokens, not only at each by itself."""
    return sampling.top_k > 0 or sampling.top_p < 1


def draw_free(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    """Draw from the whole vocabulary, or from what min_p leaves of it."""
    scaled = logits / reals[:, :1]
    weakest = scaled.max(dim=-1, keepdim=True).values + reals[:, 2:].log()
    ids = torch.arange(logits.shape[1], device=logits.device)[None]
    noisy = (scaled + gumbel(ints, ids)).masked_fill_(scaled < weakest, -math.inf)
    return noisy.argmax(dim=-1)


def draw_narrowed(logits: torch.Tensor, reals: torch.Tensor, ints: torch.Tensor) -> torch.Tensor:
    """Draw from what top_k, then top_p, then min_p leave."""
    scaled = logits / reals[:, :1]
    if logits.is_cuda or logits.shape[1] <= NUM_CANDIDATES:
        # On a GPU a whole sort costs less than asking whether it could have been avoided.
        return _draw_sorted(scaled, logits.shape[1], reals, ints)[0]
    tokens, covered = _draw_sorted(scaled, NUM_CANDIDATES, reals, ints)
    if not bool(covered.all()):
        rest = ~covered
        tokens[rest] = _draw_sorted(scaled[rest], logits.shape[1], reals[rest], ints[rest])[0]
    return tokens


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
    first = _mix(ints[:, 0:1] ^ _mix((draw * 0x9E3779B1) & _WORD))
    second = _mix(ints[:, 1:2] + draw)
    word = _mix(_mix((ids * 0x85EBCA77 + first) & _WORD) ^ second)
    uniform = (word.double() + 0.5) / 2.0**32
    return -torch.log(-torch.log(uniform))


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
