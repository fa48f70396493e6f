"""Tokenizers of three kinds, and random walks along a grammar over them: what any model at all could answer."""

import random
from functools import cache
from pathlib import Path

import numpy as np
import torch
from family_processors import byte_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import TokenizersBackend

from workers.model.grammars.grammar import GrammarConstraint, Grammars
from workers.model.prompting.detokenize import Detokenizer
from workers.model.special_tokens import special_ids

BUNDLED = Path(__file__).parents[3] / "models" / "tiny-gemma4" / "tokenizer.json"
KINDS = ("bundled", "bytes", "sentencepiece")
# Small models' own heads are often a little larger than their vocabulary.
NUM_PADDING = 7
_WOUND_DOWN_AFTER = 150


@cache
def tokenizer(kind: str) -> TokenizersBackend:
    """bundled: byte-level BPE of 1024; bytes: one token a byte; sentencepiece: with a fallback to bytes."""
    match kind:
        case "bundled":
            return TokenizersBackend(
                tokenizer_object=Tokenizer.from_file(str(BUNDLED)), eos_token="<eos>", pad_token="<pad>"
            )
        case "bytes":
            return byte_tokenizer(["<|image|>", "[TOOL_CALLS]"])
        case _:
            return _sentencepiece()


def _sentencepiece() -> TokenizersBackend:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    letters = '▁abcdefghijklmnopqrstuvwxyz0123456789{}[]":,.-é'
    vocabulary |= {letter: len(vocabulary) + i for i, letter in enumerate(letters)}
    merges = [
        ("▁", "a"),
        ("a", "b"),
        ("▁a", "b"),
        ("{", '"'),
        ('"', ":"),
        ("t", "r"),
        ("u", "e"),
        ("tr", "ue"),
    ]
    vocabulary |= {left + right: len(vocabulary) + i for i, (left, right) in enumerate(merges)}
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return TokenizersBackend(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


@cache
def grammars(kind: str) -> Grammars:
    """One of each kind for all tests, as a worker has one for all requests."""
    chosen = tokenizer(kind)
    assert isinstance(chosen.eos_token_id, int)
    return Grammars(chosen, frozenset({chosen.eos_token_id}), len(chosen) + NUM_PADDING)


def allowed_tokens(constraint: GrammarConstraint) -> list[int]:
    """The tokens that may come next."""
    words = constraint.allowed().numpy().view(np.uint8)
    return [int(token) for token in np.flatnonzero(np.unpackbits(words, bitorder="little"))]


def follow(kind: str, constraint: GrammarConstraint, seed: int) -> str | None:
    """Draw tokens that the grammar allows until it ends. The text, or None if it did not end."""
    tokens = walk(tokenizer(kind), constraint, seed)
    return None if tokens is None else shown(tokenizer(kind), tokens)


def walk(
    chosen: TokenizersBackend, constraint: GrammarConstraint, seed: int, max_tokens: int = 600
) -> list[int] | None:
    """The tokens of a random answer, without its end; None if it did not end."""
    draw = random.Random(seed)
    tokens: list[int] = []
    while len(tokens) < max_tokens:
        allowed = allowed_tokens(constraint)
        assert allowed, "a constraint must always allow something"
        longer = [token for token in allowed if token != chosen.eos_token_id]
        may_end = len(longer) < len(allowed)
        if may_end and (not longer or len(tokens) > _WOUND_DOWN_AFTER or draw.random() < 0.2):
            return tokens
        if len(tokens) > _WOUND_DOWN_AFTER:
            longer = _closing(chosen, longer) or longer
        tokens.append(draw.choice(longer))
        constraint.accept(tokens[-1])
    return None


def shown(chosen: TokenizersBackend, tokens: list[int], keep: frozenset[int] = frozenset()) -> str:
    """What a client sees of these tokens. keep: special ones that it sees too."""
    detokenizer = Detokenizer(chosen, special_ids(chosen) - keep)
    return detokenizer.push(tokens) + detokenizer.finish()


def bits(words: torch.Tensor) -> int:
    """How many tokens a mask allows."""
    return sum(int(word & 0xFFFFFFFF).bit_count() for word in words.tolist())


def _closing(chosen: TokenizersBackend, allowed: list[int]) -> list[int]:
    closers = _closers(chosen)
    return [token for token in allowed if token in closers]


@cache
def _closers(chosen: TokenizersBackend) -> frozenset[int]:
    """Tokens that begin by closing something."""
    return frozenset(
        token for token in range(len(chosen)) if chosen.decode([token]).strip()[:1] in set('"}])<')
    )
