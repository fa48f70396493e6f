"""Log probabilities on their way to the client: OpenAI's entries, each told with the text of its token."""

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workers.engine.protocol import Logprobs

if TYPE_CHECKING:
    from workers.model.prompting.detokenize import Detokenizer

# What OpenAI says of a token that cannot come; JSON knows no infinity.
NEVER = -9999.0


class ProbabilityWriter:
    """One answer's entries, in order. bytes_of: the UTF-8 of a token, which may be a part of a character.

    An entry waits until the first character of its token is shown: text may be held back for a stop string, and
    what a stop string cuts off has no entries either. Tokens that are never text have none.
    """

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()
        self._num_written = 0
        self._num_shown = 0
        self.shown: list[dict[str, Any]] = []

    def push(
        self, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...], detokenizer: "Detokenizer"
    ) -> str:
        """The text that these tokens complete; their entries wait for it to be shown."""
        text = ""
        for token, found in zip(tokens, logprobs, strict=True):
            if detokenizer.is_text(token):
                self._waiting.append((self._num_written, self._entry(token, found)))
            piece = detokenizer.push((token,))
            self._num_written += len(piece)
            text += piece
        return text

    def take_shown(self, text: str, *, is_last: bool) -> list[dict[str, Any]]:
        """The entries that go with this shown text. is_last: nothing is held back any more, nor cut off."""
        self._num_shown += len(text)
        taken = []
        while self._waiting and (is_last or self._waiting[0][0] < self._num_shown):
            taken.append(self._waiting.popleft()[1])
        self.shown += taken
        return taken

    def _entry(self, token: int, found: Logprobs) -> dict[str, Any]:
        top = [self._candidate(candidate, logprob) for candidate, logprob in found.top]
        return {**self._candidate(token, found.chosen), "top_logprobs": top}

    def _candidate(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._bytes_of(token)
        return {
            "token": raw.decode(errors="replace"),
            "logprob": logprob if math.isfinite(logprob) else NEVER,
            "bytes": list(raw),
        }
