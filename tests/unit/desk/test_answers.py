"""From drawn tokens to what a listener hears and what the reply holds."""

import math
import re

import pytest
from test_threads import Heard, job
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from service.contract.jobs import Cancelled, Failed, Outcome, Succeeded
from service.contract.streams import Delta
from service.settings import BUNDLED_MODEL
from workers.desk.answers import Answer
from workers.desk.probabilities import NEVER, ProbabilityWriter
from workers.desk.publisher import Publisher
from workers.desk.replier import Replier
from workers.desk.seats import Seat
from workers.desk.tool_calls import CallWriter
from workers.engine.protocol import Broken, EngineEvent, Finished, Logprobs, Progress, Sampling, Sequence
from workers.engine.scripted import ScriptedPrompt
from workers.model.calling.tools import CallSyntax, Read, ToolParser
from workers.model.prompting.detokenize import Detokenizer, StopChecker
from workers.model.prompting.prepared import PromptCounts
from workers.model.prompting.token_bytes import TokenBytes
from workers.model.special_tokens import special_ids


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BUNDLED_MODEL)


def new_detokenizer(tokenizer: PreTrainedTokenizerBase) -> Detokenizer:
    return Detokenizer(tokenizer, special_ids(tokenizer))


class Room:
    """A job's seat with its answers, and what the replier makes of the engine's events."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, num_answers: int) -> None:
        self.outcomes: list[Outcome] = []
        self.cancelled: list[int] = []
        self.seat = Seat(job(1), counts=PromptCounts(text=7))
        self.seat.answers = tuple(
            Answer(self.seat, index, new_detokenizer(tokenizer)) for index in range(num_answers)
        )
        self._replier = Replier(Publisher(Heard()), self._settle, self.cancelled.append, Seat.note_token)

    def _settle(self, seat: Seat, outcome: Outcome) -> None:
        seat.ended = True
        self.outcomes.append(outcome)

    def sequence(self, index: int) -> Sequence:
        answer = self.seat.answers[index]
        return Sequence(answer.number, ScriptedPrompt(()), Sampling(), tag=answer)

    def absorb(self, *events: EngineEvent) -> None:
        for event in events:
            self._replier.absorb(event)


def test_a_job_ends_when_all_its_answers_have_and_counts_its_prompt_once(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    room = Room(tokenizer, 2)
    red, blue = (
        tokenizer.encode("red", add_special_tokens=False),
        tokenizer.encode(" blue", add_special_tokens=False),
    )

    room.absorb(Progress(room.sequence(1), tuple(blue)), Finished(room.sequence(1), "length"))
    assert room.outcomes == []
    room.absorb(Progress(room.sequence(0), tuple(red)), Finished(room.sequence(0), "stop"))

    (outcome,) = room.outcomes
    assert isinstance(outcome, Succeeded)
    choices = outcome.body["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [
        (0, "red"),
        (1, " blue"),
    ]
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (7, len(red) + len(blue))


def test_a_reply_says_how_much_of_its_prompt_had_been_computed_before(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Of the first answer's prompt: the others begin where it has left off."""
    room = Room(tokenizer, 2)
    first, second = room.sequence(0), room.sequence(1)
    first.num_cached_tokens, second.num_cached_tokens = 4, 6

    room.absorb(Progress(first, (5,)), Progress(second, (5,)))
    room.absorb(Finished(first, "stop"), Finished(second, "stop"))

    (outcome,) = room.outcomes
    assert isinstance(outcome, Succeeded)
    assert outcome.usage.cached_tokens == 4
    assert outcome.body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


@pytest.mark.parametrize("ending", ["broken", "cancelled"])
def test_an_answer_that_breaks_or_is_cancelled_ends_the_job_and_its_other_answers(
    tokenizer: PreTrainedTokenizerBase, ending: str
) -> None:
    room = Room(tokenizer, 3)
    room.absorb(Finished(room.sequence(0), "stop"))
    broken = room.sequence(1)

    room.absorb(
        Broken(broken, "model_failed", "No.") if ending == "broken" else Finished(broken, "cancelled")
    )
    room.absorb(Finished(room.sequence(2), "cancelled"))

    (outcome,) = room.outcomes
    assert isinstance(outcome, Failed if ending == "broken" else Cancelled)
    assert room.cancelled == [room.seat.answers[1].number, room.seat.answers[2].number]


def test_entries_come_with_the_text_of_their_tokens_and_end_where_a_stop_string_cuts(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    answer = Answer(
        Seat(job(1)),
        0,
        new_detokenizer(tokenizer),
        stops=StopChecker(["lue d"]),
        probabilities=ProbabilityWriter(TokenBytes(tokenizer).reader()),
    )
    tokens = tokenizer.encode("A 東 blue disc", add_special_tokens=False)
    told: list[Delta] = []
    for token in tokens:
        delta, stopped = answer.take((token,), (Logprobs(-0.5, ((token, -math.inf),)),))
        told += [delta] if delta else []
        if stopped:
            break
    answer.end("stop")

    entries = answer.body()["logprobs"]["content"]
    assert [entry for delta in told for entry in delta.logprobs] == entries
    assert answer.body()["message"]["content"] == "A 東 b"
    raw = b"".join(bytes(entry["bytes"]) for entry in entries)
    assert "A 東 blue disc".encode().startswith(raw)
    assert len(raw) - len(entries[-1]["bytes"]) < len("A 東 b".encode()) <= len(raw)
    assert {entry["top_logprobs"][0]["logprob"] for entry in entries} == {NEVER}


class Unreadable(CallSyntax):
    """A format with a bug."""

    closers = ">"

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        raise ValueError("a bug")

    def read(self, text: str, *, is_last: bool) -> Read | None:
        return None


def test_an_answer_that_cannot_be_read_fails_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    room = Room(tokenizer, 1)
    room.seat.answers[0].calls = CallWriter(ToolParser(Unreadable()), "1:0")

    room.absorb(Progress(room.sequence(0), tuple(tokenizer.encode("red", add_special_tokens=False))))

    (outcome,) = room.outcomes
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "answer_failed"
    assert room.cancelled == [room.seat.answers[0].number]


def test_a_stop_token_counts_but_is_not_shown(tokenizer: PreTrainedTokenizerBase) -> None:
    red, stop = (
        tokenizer.encode("red", add_special_tokens=False),
        tokenizer.encode("!", add_special_tokens=False),
    )
    answer = Answer(Seat(job(1)), 0, new_detokenizer(tokenizer), stop_ids=frozenset(stop))
    for token in red + stop:
        answer.take((token,), ())
    assert "".join(answer.text) == "red"
    assert answer.num_tokens == len(red) + len(stop)


def test_every_token_has_its_bytes_and_a_number_without_a_token_has_none(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    bytes_of = TokenBytes(tokenizer).reader()
    text = "Ärger 東京 🙂"
    assert b"".join(map(bytes_of, tokenizer.encode(text, add_special_tokens=False))).decode() == text
    assert bytes_of(len(tokenizer) + 5) == b""


class Spelled(CallSyntax):
    """Calls written as <name{…}>, all of it plain text."""

    closers = ">"

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        at = text.find("<")
        return (at, True) if at >= 0 else (len(text), False)

    def read(self, text: str, *, is_last: bool) -> Read | None:
        call = re.match(r"<(\w+)(\{.*?\})>", text)
        return Read(call.end(), ((call[1], call[2]),)) if call else None


@pytest.mark.parametrize(("only_one", "num_calls"), [(False, 2), (True, 1)])
def test_calls_are_told_whole_with_ids_that_every_attempt_repeats(
    tokenizer: PreTrainedTokenizerBase, only_one: bool, num_calls: int
) -> None:
    def attempt() -> tuple[list[Delta], Answer]:
        writer = CallWriter(ToolParser(Spelled()), "1:0", only_one=only_one)
        answer = Answer(Seat(job(1)), 0, new_detokenizer(tokenizer), calls=writer)
        told: list[Delta] = []
        for token in tokenizer.encode('Well <look{"a":1}><find{}>', add_special_tokens=False):
            delta, is_over = answer.take((token,), ())
            told += [delta] if delta else []
            if is_over:
                break
        else:
            told += [delta] if (delta := answer.finish()) else []
        answer.end("stop")
        return told, answer

    told, answer = attempt()

    message = answer.body()["message"]
    assert message["content"] == "Well" == "".join(delta.text for delta in told)
    assert message["tool_calls"] == [call for delta in told for call in delta.tool_calls]
    functions = [call["function"] for call in message["tool_calls"]]
    assert (
        functions
        == [{"name": "look", "arguments": '{"a":1}'}, {"name": "find", "arguments": "{}"}][:num_calls]
    )
    assert answer.finish_reason == "tool_calls"
    ids = [call["id"] for call in message["tool_calls"]]
    assert len(set(ids)) == num_calls
    assert [call["id"] for call in attempt()[1].body()["message"]["tool_calls"]] == ids
