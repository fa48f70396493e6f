"""What each token of a vocabulary stands for, byte by byte."""

import logging
import threading
from collections.abc import Callable
from functools import partial

import llguidance
import llguidance.hf
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

BytesOf = Callable[[int], bytes]


class TokenBytes:
    """Looks tokens up, in a table that is made when it is first wanted: that takes a second for a large vocabulary."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._reader: BytesOf | None = None

    def reader(self) -> BytesOf:
        """What gives the UTF-8 of one token: perhaps a part of a character, nothing for a number without a token."""
        with self._lock:
            self._reader = self._reader or self._new_reader()
            return self._reader

    def _new_reader(self) -> BytesOf:
        if isinstance(self._tokenizer, PreTrainedTokenizerFast):
            try:
                return partial(_looked_up, llguidance.hf.from_tokenizer(self._tokenizer))
            except Exception:
                log.warning("tokens are told by their text, whole characters only", exc_info=True)
        return partial(_decoded, self._tokenizer)


def _looked_up(table: llguidance.LLTokenizer, token: int) -> bytes:
    return table.decode_bytes([token]) if token < table.vocab_size else b""


def _decoded(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    return str(tokenizer.decode([token])).encode() if token < len(tokenizer) else b""
