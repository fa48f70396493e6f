"""From a claimed row to a sequence the engine can run: parse, load media, render the prompt."""

from collections.abc import Callable
from typing import Protocol

from service.actions.load_body import load_body
from service.actions.parts import Parts
from service.contract.chat import ChatRequest, media_refs, template_messages
from service.contract.endpoints import request_of
from service.contract.jobs import Succeeded
from service.contract.media import MediaNeeds, MediaRef
from service.contract.tools import template_tools
from workers.desk.answers import Answer
from workers.desk.probabilities import ProbabilityWriter
from workers.desk.sampling import check_length, check_tokens, samplings
from workers.desk.seats import Seat
from workers.desk.tool_calls import CallWriter
from workers.engine.protocol import Constraint, Sequence
from workers.media.decoded import Decoded
from workers.model.prompting.detokenize import StopChecker
from workers.model.prompting.prepare_pool import PreparerPool
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.prompts import Prompter

CHAT_PRIORITY, BULK_PRIORITY = 0, 1


class MediaLoader(Protocol):
    """Turns a named piece of media into pixels or samples."""

    def load(self, ref: MediaRef, needs: MediaNeeds, tenant_id: str, *, is_chat: bool = False) -> Decoded:
        """Blocking; raises BadMedia or MediaUnavailable."""


class Preparer:
    """Everything that happens to a job before the device sees it. Runs in several threads at once.

    pool: processes that render prompts and run processors; before they are there the calling thread does.
    """

    def __init__(
        self,
        parts: Parts,
        media: MediaLoader,
        prompter: Prompter,
        max_context_tokens: int,
        pool: PreparerPool | None = None,
    ) -> None:
        self._parts = parts
        self._media = media
        self._prompter = prompter
        self._pool = pool
        self._max_context_tokens = max_context_tokens

    def prepare(self, seat: Seat) -> list[Sequence] | Succeeded:
        """Fill the seat and return what the engine runs, one sequence for each answer.

        A job that needs no engine is answered here: its outcome is returned instead.
        Raises SluiceError for this job alone.
        """
        request = request_of(seat.job.endpoint, load_body(self._parts, seat.job))
        # What needs no media is refused before any are loaded.
        check_length(request, 1, self._max_context_tokens)
        check_tokens(request, self._prompter.vocab_size)
        new_constraint = self._form_of(request)
        prompt = self._prompt(request, seat.job.tenant_id, is_chat=seat.is_chat)
        check_length(request, prompt.num_tokens, self._max_context_tokens)
        drawn_by = samplings(
            request,
            # A job draws by its own number: another attempt gives the same answer, and a listener can go on.
            seed=seat.job.id,
            room=self._max_context_tokens - prompt.num_tokens,
            new_constraint=new_constraint,
        )
        seat.note_prompt(prompt)
        seat.answers = tuple(self._answer(request, seat, index) for index in range(len(drawn_by)))
        priority = CHAT_PRIORITY if seat.is_chat else BULK_PRIORITY
        return [
            Sequence(id=answer.number, prompt=prompt, sampling=sampling, priority=priority, tag=answer)
            for answer, sampling in zip(seat.answers, drawn_by, strict=True)
        ]

    def _prompt(self, request: ChatRequest, tenant_id: str, *, is_chat: bool) -> Prepared:
        needs = self._prompter.needs
        media = [self._media.load(ref, needs, tenant_id, is_chat=is_chat) for ref in media_refs(request)]
        tools = template_tools(request.usable_tools) or None
        messages = template_messages(request)
        if self._pool is None or not self._pool.is_ready():
            return self._prompter.prepare(messages, media, tools=tools, scope=tenant_id)
        return self._pool.prepare(messages, media, is_chat=is_chat, tools=tools, scope=tenant_id)

    def _form_of(self, request: ChatRequest) -> Callable[[], Constraint] | None:
        """What makes a constraint for each answer, if the request prescribes their form or their calls."""
        spec, param = request.grammar_spec, "grammar" if request.grammar else "response_format"
        if tools := request.usable_tools:
            parallel = request.parallel_tool_calls is not False
            spec = self._prompter.tool_format.grammar(tools, request.tool_choice, parallel=parallel)
            param = "tools"
        return None if spec is None else self._prompter.grammars.compile(spec, param=param).fresh

    def _answer(self, request: ChatRequest, seat: Seat, index: int) -> Answer:
        prompter, tools = self._prompter, request.usable_tools
        answer = Answer(
            seat,
            index,
            prompter.detokenizer(prompter.tool_format.keep_tokens) if tools else prompter.detokenizer(),
            stops=StopChecker(request.stop) if request.stop else None,
            stop_ids=frozenset(request.stop_token_ids or ()),
            probabilities=ProbabilityWriter(prompter.token_bytes.reader()) if request.logprobs else None,
        )
        if tools:
            only_one = request.parallel_tool_calls is False
            answer.calls = CallWriter(
                prompter.tool_format.parser(tools), f"{seat.job.id}:{index}", only_one=only_one
            )
        return answer
