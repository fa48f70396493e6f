"""What each token of a vocabulary stands for, byte by byte."""

import threading

import llguidance
import llguidance.hf
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


class TokenBytes:
    """Looks tokens up. The table is built at the first look, since it takes a second for a large vocabulary."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._table: llguidance.LLTokenizer | None = None

    def of(self, token: int) -> bytes:
        """The UTF-8 of one token, perhaps only a part of a character; nothing for a number without a token."""
        if not isinstance(self._tokenizer, PreTrainedTokenizerFast):
            return str(self._tokenizer.decode([token])).encode()
        table = self._looked_up(self._tokenizer)
        return table.decode_bytes([token]) if token < table.vocab_size else b""

    def _looked_up(self, tokenizer: PreTrainedTokenizerFast) -> llguidance.LLTokenizer:
        with self._lock:
            if self._table is None:
                self._table = llguidance.hf.from_tokenizer(tokenizer)
            return self._table
