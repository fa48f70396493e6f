"""From a claimed row to a sequence the engine can run: parse, load media, render the prompt."""

import time
from typing import Protocol

from service.actions.load_body import load_body
from service.actions.parts import Parts
from service.contract.chat import ChatRequest, media_refs, parse_chat_request, template_messages
from service.contract.media import MediaNeeds, MediaRef
from workers.desk.seats import Seat
from workers.engine.protocol import Sampling, Sequence
from workers.media.decoded import Decoded
from workers.model.detokenize import StopChecker
from workers.model.prompts import Prompter

CHAT_PRIORITY, BULK_PRIORITY = 0, 1
# Where a request sets no limit; the room in the slot if that is less.
DEFAULT_ANSWER_TOKENS = 1024


class MediaLoader(Protocol):
    """Turns a named piece of media into pixels or samples."""

    def load(self, ref: MediaRef, needs: MediaNeeds, tenant_id: str) -> Decoded:
        """Blocking; raises BadMedia or MediaUnavailable."""


class Preparer:
    """Everything that happens to a job before the device sees it. Runs in several threads at once."""

    def __init__(self, parts: Parts, media: MediaLoader, prompter: Prompter, max_context_tokens: int) -> None:
        self._parts = parts
        self._media = media
        self._prompter = prompter
        self._max_context_tokens = max_context_tokens

    def prepare(self, seat: Seat) -> Sequence:
        """Fill the seat and return what the engine runs. Raises SluiceError for this job alone."""
        request = parse_chat_request(load_body(self._parts, seat.job))
        media = [
            self._media.load(ref, self._prompter.needs, seat.job.tenant_id) for ref in media_refs(request)
        ]
        seat.prepared = self._prompter.prepare(template_messages(request), media, scope=seat.job.tenant_id)
        seat.detokenizer = self._prompter.detokenizer()
        seat.stops = StopChecker(request.stop) if request.stop else None
        seat.submitted_at = time.monotonic()
        return Sequence(
            id=seat.number,
            prompt=seat.prepared,
            sampling=self._sampling(request, seat),
            priority=CHAT_PRIORITY if seat.is_chat else BULK_PRIORITY,
            tag=seat,
        )

    def _sampling(self, request: ChatRequest, seat: Seat) -> Sampling:
        assert seat.prepared is not None
        room = max(1, self._max_context_tokens - seat.prepared.num_tokens)
        return Sampling(
            temperature=request.sampling_temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            top_k=request.top_k or 0,
            min_p=request.min_p or 0.0,
            # A job draws by its own number: another attempt gives the same answer, and a listener can go on.
            seed=seat.job.id if request.seed is None else request.seed,
            max_tokens=request.max_answer_tokens or min(room, DEFAULT_ANSWER_TOKENS),
            min_tokens=request.min_tokens or 0,
            ignore_eos=bool(request.ignore_eos),
        )
