"""From a claimed row to a sequence the engine can run: parse, load media, render the prompt."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from service.actions.load_body import load_body
from service.actions.parts import Parts
from service.contract import endpoints
from service.contract.chat import (
    ChatRequest,
    media_refs,
    parse_chat_request,
    template_messages,
)
from service.contract.endpoints import WITHOUT_ENGINE, Asked, request_in
from service.contract.jobs import ClaimedJob, Succeeded, Usage
from service.contract.measured_lines import MeasuredLine
from service.contract.media import MediaRef
from service.contract.tokens import parse_detokenize_request, parse_tokenize_request
from service.contract.tools import template_tools
from service.contract.transcriptions import parse_transcription_request
from service.errors import SluiceError
from workers.desk.answers import Answer
from workers.desk.leaders import Waiting
from workers.desk.probabilities import ProbabilityWriter
from workers.desk.prompts import MediaLoader, Prompts
from workers.desk.reuse import Reuse
from workers.desk.sampling import check_length, check_tokens, samplings
from workers.desk.seats import Seat
from workers.desk.tokens import TokenCounter
from workers.desk.tool_calls import CallWriter
from workers.desk.transcriptions import at_length, hearing
from workers.engine.protocol import Constraint, Sampling, Sequence
from workers.model.prompting.detokenize import StopChecker
from workers.model.prompting.prepare_pool import PreparerPool
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.prompts import Prompter

CHAT_PRIORITY, BULK_PRIORITY = 0, 1


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
        reuse: Reuse,
        pool: PreparerPool | None = None,
    ) -> None:
        self.reuse = reuse
        self._parts = parts
        self._prompter = prompter
        self._prompts = Prompts(media, prompter, pool, parts.settings.max_parts)
        self._tokens = TokenCounter(prompter, self._prompts, max_context_tokens)
        self._max_context_tokens = max_context_tokens

    def prepare(self, seat: Seat) -> list[Sequence] | Succeeded | Waiting:
        """Fill the seat and return what the engine runs, one sequence for each answer.

        A job that needs no engine is answered here: its outcome is returned instead, or that it waits for another's.
        Raises SluiceError for this job alone.
        """
        job, raw = seat.job, load_body(self._parts, seat.job)
        if job.endpoint in WITHOUT_ENGINE:
            return Succeeded(job, self._aside(job, raw), Usage())
        asked, options = self._asked(job, raw)
        seat.ignored_fields = asked.ignored
        if (found := self._found(seat, asked.chat)) is not None:
            return found
        try:
            prompt, drawn_by = self._ready(job, asked.chat, **options)
        except SluiceError as error:
            raise asked.in_own_words(error) from None
        self.reuse.check(seat)
        seat.note_prompt(prompt)
        seat.reply = asked.reply
        seat.answers = tuple(self._answer(asked.chat, seat, index) for index in range(len(drawn_by)))
        priority = CHAT_PRIORITY if seat.is_chat else BULK_PRIORITY
        return [
            Sequence(id=answer.number, prompt=prompt, sampling=sampling, priority=priority, tag=answer)
            for answer, sampling in zip(seat.answers, drawn_by, strict=True)
        ]

    def _found(self, seat: Seat, request: ChatRequest) -> Succeeded | Waiting | None:
        """The answer of an equal request, or that it is under way; None: this one is to be computed."""
        if not self.reuse.allows(seat.job, request):
            return None
        messages = self._prompts.with_file_kinds(seat.job, request.messages)
        return self.reuse.look(seat, request.model_copy(update={"messages": messages}))

    def _aside(self, job: ClaimedJob, raw: bytes) -> Mapping[str, Any]:
        """The reply to a request about tokens."""
        match job.endpoint:
            case endpoints.TOKENIZE:
                return self._tokens.tokenize(job, parse_tokenize_request(raw))
            case endpoints.DETOKENIZE:
                return self._tokens.detokenize(parse_detokenize_request(raw))
        prompt, drawn_by = self._ready(job, parse_chat_request(raw))
        most_answer = sum(sampling.max_tokens for sampling in drawn_by)
        return MeasuredLine(**asdict(prompt.counts), most_answer=most_answer).as_body()

    def _asked(self, job: ClaimedJob, raw: bytes) -> tuple[Asked, dict[str, Any]]:
        """What the job asks for, and options of `_ready`."""
        if job.endpoint != endpoints.TRANSCRIBE:
            return request_in(job.endpoint, raw), {}
        wanted = parse_transcription_request(raw)
        instruction = self._parts.settings.transcription_prompt
        chat, ending = hearing(self._prompter, wanted, instruction, job.model)
        return Asked(chat, in_own_words=wanted.in_own_words), {"refs": [wanted.sound()], "ending": ending}

    def _ready(
        self,
        job: ClaimedJob,
        request: ChatRequest,
        refs: list[MediaRef] | None = None,
        ending: tuple[int, ...] = (),
    ) -> tuple[Prepared, tuple[Sampling, ...]]:
        """The prompt, and how each answer is drawn; everything that can be refused has been.

        refs: the conversation's media, where others than its own names for them. ending: see `Prompter.prepare`.
        """
        # What needs no media is refused before any are loaded.
        check_length(request, 1, self._max_context_tokens)
        check_tokens(request, self._prompter.vocab_size)
        new_constraint = self._form_of(request)
        messages = self._prompts.with_file_kinds(job, request.messages)
        request = request.model_copy(update={"messages": messages})
        prompt = self._prompts.make(
            job,
            template_messages(request),
            refs or media_refs(request),
            tools=template_tools(request.usable_tools) or None,
            ending=ending,
        )
        check_length(request, prompt.num_tokens, self._max_context_tokens)
        drawn_by = samplings(
            request,
            # A job draws by its own number: another attempt gives the same answer, and a listener can go on.
            seed=job.id,
            room=self._max_context_tokens - prompt.num_tokens,
            new_constraint=new_constraint,
        )
        if job.endpoint == endpoints.TRANSCRIBE:
            drawn_by = at_length(drawn_by, prompt.counts.audio, self._max_context_tokens - prompt.num_tokens)
        return prompt, drawn_by

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
