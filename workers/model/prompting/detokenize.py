"""Tokens back to text, as they come: whole characters only, and nothing that may be the start of a stop string."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

REPLACEMENT = "\ufffd"
# A character has at most four bytes; a longer wait means bytes that will never become one.
MAX_HELD_TOKENS = 32


class Detokenizer:
    """Turns one answer's tokens into text, piece by piece; the pieces join to what decoding all at once gives.

    A token may hold a part of a character, and its text may depend on the token before it. So a piece is the
    difference between two decodings of a short window, held back while it ends inside a character.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special_ids: frozenset[int]) -> None:
        self._decode = _decoder(tokenizer)
        self._special = special_ids
        self._tokens: list[int] = []
        self._window_start = 0
        self._shown = 0

    def is_text(self, token: int) -> bool:
        """Whether this token becomes text at all."""
        return token not in self._special

    def push(self, ids: Iterable[int]) -> str:
        """Text that these tokens complete."""
        self._tokens += [token for token in ids if token not in self._special]
        text = self._new_text()
        waits = text.endswith(REPLACEMENT) and len(self._tokens) - self._shown <= MAX_HELD_TOKENS
        if not text or waits:
            return ""
        self._advance()
        return text

    def finish(self) -> str:
        """What is left, even if it ends inside a character."""
        text = self._new_text()
        self._advance()
        return text

    def _new_text(self) -> str:
        shown = self._decode(self._tokens[self._window_start : self._shown])
        return self._decode(self._tokens[self._window_start :])[len(shown) :]

    def _advance(self) -> None:
        self._window_start, self._shown = self._shown, len(self._tokens)


def _decoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[int]], str]:
    """Tokens to text as the tokenizer itself does it, nothing cleaned up.

    This runs for every token of every answer, and most of what transformers wraps around its backend is checks.
    """
    if isinstance(tokenizer, PreTrainedTokenizerFast) and (
        type(tokenizer)._decode is PreTrainedTokenizerFast._decode
        and type(tokenizer).decode is PreTrainedTokenizerFast.decode
    ):
        return partial(tokenizer.backend_tokenizer.decode, skip_special_tokens=False)
    return partial(_decode_in_full, tokenizer)


def _decode_in_full(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


class StopChecker:
    """Cuts an answer before the first of its stop strings, and holds back text that may become one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(text for text in stop if text)
        self._held = ""
        self._stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """(text to show now, whether a stop string has come). After a stop nothing more is shown."""
        if self._stopped:
            return "", True
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        self._stopped = bool(found)
        keep_from = min(found) if found else len(self._held) - self._num_held()
        shown, self._held = self._held[:keep_from], "" if found else self._held[keep_from:]
        return shown, self._stopped

    def finish(self) -> str:
        """What was held back for a stop string that never came."""
        held, self._held = self._held, ""
        return held

    def _num_held(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(self._held), max((len(stop) for stop in self._stop), default=1) - 1)
        return next((n for n in range(longest, 0, -1) if self._begins_stop(self._held[-n:])), 0)

    def _begins_stop(self, text: str) -> bool:
        return any(stop.startswith(text) for stop in self._stop)
