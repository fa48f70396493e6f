"""What the engine's events mean for the jobs: text to the listeners, and an outcome once all answers are there."""

import logging
import time
from collections.abc import Callable

from service.contract.jobs import Cancelled, Failed, Outcome, Succeeded
from service.contract.replies import FinishReason
from service.contract.streams import Delta
from service.errors import BadRequest, ContextTooLong, ModelFailed, OutOfMemory, SluiceError
from workers.desk.answers import Answer
from workers.desk.publisher import Publisher
from workers.desk.seats import Seat
from workers.engine.protocol import Broken, EngineEvent, Finished, Progress, TakenIn

log = logging.getLogger(__name__)

ERROR_OF_CODE: dict[str, type[SluiceError]] = {
    "context_length_exceeded": ContextTooLong,
    "out_of_memory": OutOfMemory,
    "grammar_failed": BadRequest,
}


class Replier:
    """Used by the stepping thread alone. cancel: ends a sequence of the engine by its number."""

    def __init__(
        self,
        publisher: Publisher,
        on_outcome: Callable[[Seat, Outcome], None],
        cancel: Callable[[int], None],
        note_token: Callable[[Seat], object],
    ) -> None:
        self._publisher = publisher
        self._on_outcome = on_outcome
        self._cancel = cancel
        self._note_token = note_token

    def absorb(self, event: EngineEvent) -> None:
        """Take one event of the engine."""
        answer = event.sequence.tag
        assert isinstance(answer, Answer)
        seat = answer.seat
        if seat.ended or answer.has_ended:  # a stop string ended it while the engine still drew a token
            return
        answer.device_seconds = event.sequence.device_seconds
        try:
            self._take(event, answer, seat)
        except Exception:
            # One answer that cannot be read must not end the engine, and with it everybody's.
            log.exception("an answer of job %d failed", seat.job.id)
            failure = ModelFailed("The answer could not be read from its tokens.", code="answer_failed")
            self._settle(seat, Failed(seat.job, failure))

    def _take(self, event: EngineEvent, answer: Answer, seat: Seat) -> None:
        match event:
            case Progress(sequence, tokens, logprobs):
                if not seat.first_token_at:
                    seat.num_cached_tokens = sequence.num_cached_tokens
                self._note_token(seat)
                if not answer.num_tokens:
                    # Its inputs, which may be large, are of no use any more.
                    sequence.prompt = TakenIn(sequence.prompt.num_tokens)
                delta, stopped = answer.take(tokens, logprobs)
                self._tell(seat, delta)
                if stopped:
                    self._cancel(answer.number)
                    self._end(answer, "stop")
            case Finished(_, "cancelled"):
                self._settle(seat, Cancelled(seat.job))
            case Finished(_, reason):
                self._tell(seat, answer.finish())
                self._end(answer, "length" if reason == "length" else "stop")
            case Broken(_, code, message):
                error = ERROR_OF_CODE.get(code, ModelFailed)(message, code=code)
                self._settle(seat, Failed(seat.job, error))

    def _tell(self, seat: Seat, delta: Delta | None) -> None:
        if delta is not None:
            self._publisher.say(seat.job, delta)

    def _end(self, answer: Answer, reason: FinishReason) -> None:
        answer.end(reason)
        if answer.seat.has_all_answers:
            self._on_outcome(answer.seat, self._succeeded(answer.seat))

    def _settle(self, seat: Seat, outcome: Outcome) -> None:
        """The job ends without a reply; its other answers are of no use any more."""
        for other in seat.answers:
            if not other.has_ended:
                self._cancel(other.number)
        self._on_outcome(seat, outcome)

    def _succeeded(self, seat: Seat) -> Succeeded:
        usage = seat.usage()
        body = seat.reply(
            job_id=seat.job.id,
            created=int(time.time()),
            model=seat.job.model,
            choices=[answer.body() for answer in seat.answers],
            usage=usage,
        )
        return Succeeded(seat.job, body, usage, digest=seat.digest)
