"""What a listener was told of a chat, so that nothing is told twice and nothing is missing at the end."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.contract.streams import Delta
from service.errors import WorkerLost


@dataclass(slots=True)
class _Said:
    """How far one choice has come. num_calls, num_logprobs: how many of them."""

    text: str = ""
    num_logprobs: int = 0
    num_calls: int = 0

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.num_logprobs += len(delta.logprobs)
        self.num_calls += len(delta.tool_calls)


class ToldChat:
    """The choices of one chat, as far as they were told.

    Another attempt says the same again, for its seed is the same. What was told already is left out; an attempt
    that says something else is a WorkerLost, since two answers must not be joined.
    """

    def __init__(self) -> None:
        self._told: dict[int, _Said] = defaultdict(_Said)
        self._heard: dict[int, _Said] = defaultdict(_Said)

    def begin_attempt(self) -> None:
        """From here on deltas come from another attempt, which starts at the beginning."""
        self._heard.clear()

    def new_in(self, delta: Delta) -> Delta | None:
        """What of a delta was not told yet; None if all of it was."""
        told, heard = self._told[delta.index], self._heard[delta.index]
        heard.add(delta)
        return self._beyond(told, heard, delta.index, delta)

    def rest_of(self, wholes: Iterable[Delta]) -> Iterator[Delta]:
        """What of whole answers was not told yet."""
        for whole in wholes:
            heard = _Said()
            heard.add(whole)
            if rest := self._beyond(self._told[whole.index], heard, whole.index, whole):
                yield rest

    def _beyond(self, told: _Said, heard: _Said, index: int, latest: Delta) -> Delta | None:
        """The end of what was heard that was not told. latest: the part of it that was heard last."""
        if not (heard.text.startswith(told.text) or told.text.startswith(heard.text)):
            raise WorkerLost("The worker that was answering went away. Send the request again.")
        new = Delta(
            heard.text[len(told.text) :],
            index,
            _last(latest.logprobs, heard.num_logprobs - told.num_logprobs),
            _last(latest.tool_calls, heard.num_calls - told.num_calls),
        )
        told.add(new)
        return new if new.text or new.logprobs or new.tool_calls else None


def _last(entries: tuple[Mapping[str, Any], ...], number: int) -> tuple[Mapping[str, Any], ...]:
    return entries[-number:] if number > 0 else ()
