"""The engine: decides who runs next, one token at a time; never touches a tensor."""

import heapq
from collections import deque
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from workers.engine.config import EngineConfig
from workers.engine.lanes import Run
from workers.engine.protocol import (
    Broken,
    EngineEvent,
    Finished,
    Handle,
    Parked,
    Pending,
    Prefill,
    Progress,
    RowFailed,
    Sequence,
    SlotModel,
    StepPlan,
    Token,
)
from workers.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class _Flight:
    """A launched step, and who held its rows then: a row may have changed hands before its result is read."""

    pending: Pending
    plan: StepPlan
    drawing: dict[int, Run]
    parking: dict[int, Run]


@dataclass(slots=True)
class _Draft:
    """A step plan in the making."""

    free: list[int] = field(default_factory=list)
    park: list[int] = field(default_factory=list)
    restore: list[tuple[int, Handle]] = field(default_factory=list)
    prefill: list[Prefill] = field(default_factory=list)
    decode: list[int] = field(default_factory=list)


class Engine:
    """Runs sequences on a slot model.

    `submit` and `cancel` may be called from any thread, everything else from the one thread that steps.
    """

    def __init__(self, model: SlotModel, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self._model = model
        self._scheduler = Scheduler(self.config, model.num_slots)
        self._inbox: deque[Sequence] = deque()
        self._cancelled: deque[int] = deque()
        self._runs: dict[int, Run] = {}
        self._held: dict[int, Run] = {}
        self._empty_rows = list(range(model.num_slots))
        self._rows_to_free: list[int] = []
        self._num_parked = 0
        self._in_flight: _Flight | None = None
        self._events: list[EngineEvent] = []
        self._step = 0
        self._num_arrived = 0
        self._plan = StepPlan()
        self._read: _Flight | None = None

    @property
    def has_work(self) -> bool:
        """Whether another step would do anything."""
        return bool(self._inbox or self._runs or self._in_flight)

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot."""
        return len(self._held)

    @property
    def num_free_slots(self) -> int:
        """Slots that nobody holds."""
        return self._model.num_slots - len(self._held)

    @property
    def num_waiting(self) -> int:
        """Sequences without a slot: new ones and parked ones."""
        return len(self._inbox) + self._scheduler.num_waiting

    @property
    def plan(self) -> StepPlan:
        """The step that was launched last, or that is being launched; for those who ask what keeps us."""
        return self._plan

    def submit(self, sequence: Sequence) -> None:
        """Hand a sequence over. One that can never run comes back as `Broken` from the next step."""
        self._inbox.append(sequence)

    def cancel(self, sequence_id: int) -> None:
        """Stop a sequence wherever it is; it comes back as `Finished`, unless it has already ended."""
        self._cancelled.append(sequence_id)

    def step(self) -> list[EngineEvent]:
        """Admit what fits, advance every running sequence by one token, and tell what happened."""
        self._step += 1
        self._take_in()
        self._drop_cancelled()
        draft = _Draft()
        self._let_go_of_rows(draft)
        parking = self._park_for_chat(draft)
        running = list(self._held.items())
        self._admit(draft)
        if not self._takes_in_chat(draft):
            self._continue_rows(draft, running)
        self._fly(draft, parking)
        events, self._events = self._events, []
        return events

    def share(self, seconds: float) -> None:
        """Divide what the last `step` took among the sequences whose tokens it waited for, evenly."""
        if self._read is None:
            return
        plan, drawing = self._read.plan, self._read.drawing
        rows = (*(prefill.row for prefill in plan.prefill), *plan.decode)
        for row in rows:
            drawing[row].sequence.device_seconds += seconds / len(rows)

    def _take_in(self) -> None:
        while self._inbox:
            sequence = self._inbox.popleft()
            refusal = self._refusal(sequence)
            if refusal is not None:
                self._events.append(refusal)
                continue
            run = Run(sequence, arrival=self._num_arrived, waiting_since=self._step)
            self._num_arrived += 1
            self._runs[sequence.id] = run
            self._scheduler.push(run)

    def _refusal(self, sequence: Sequence) -> Broken | None:
        if sequence.id in self._runs:
            return Broken(sequence, "invalid_value", "A sequence with this number is already running.")
        num_new = sequence.sampling.max_tokens
        if num_new < 1:
            return Broken(sequence, "invalid_value", "max_tokens must be at least 1.")
        limit = self._model.max_context_tokens
        if self.config.max_kv_tokens is not None:
            limit = min(limit, self.config.max_kv_tokens)
        num_tokens = sequence.prompt.num_tokens
        if num_tokens + num_new <= limit:
            return None
        message = f"The prompt has {num_tokens} tokens and max_tokens is {num_new}, but one request may have {limit}."
        return Broken(sequence, "context_length_exceeded", message)

    def _drop_cancelled(self) -> None:
        while self._cancelled:
            run = self._runs.get(self._cancelled.popleft())
            if run is not None:
                self._end(run, Finished(run.sequence, "cancelled"))

    def _let_go_of_rows(self, draft: _Draft) -> None:
        """Free the rows of runs that have ended, or whose last token is already in flight."""
        for run in [run for run in self._held.values() if run.is_launched_out]:
            self._release_row(run)
        draft.free, self._rows_to_free = self._rows_to_free, []

    def _park_for_chat(self, draft: _Draft) -> dict[int, Run]:
        """Take bulk rows out of their slots while chats wait for one."""
        parking: dict[int, Run] = {}
        if not self._model.can_park:
            return parking
        for run in self._scheduler.to_park(self._held.values(), self._num_parked):
            row = self._vacate(run)
            run.num_parks += 1
            self._num_parked += 1
            draft.park.append(row)
            parking[row] = run
        return parking

    def _takes_in_chat(self, draft: _Draft) -> bool:
        """Then nobody else gets a token in this step: whoever listens hears the first word sooner."""
        return any(self._held[prefill.row].is_chat for prefill in draft.prefill)

    def _continue_rows(self, draft: _Draft, running: Ordered[tuple[int, Run]]) -> None:
        for row, run in running:
            if run.waits_for_its_token:
                continue
            run.num_launched += 1
            draft.decode.append(row)

    def _admit(self, draft: _Draft) -> None:
        """Give free slots to waiting runs: parked ones go on where they were, new ones are prefilled."""
        for run in self._scheduler.admit(self._held.values(), self._step):
            row = heapq.heappop(self._empty_rows)
            run.row, self._held[row] = row, run
            run.num_launched += 1
            if run.parked is None:
                prompt, sampling = run.sequence.prompt, run.sequence.sampling
                draft.prefill.append(Prefill(row, run.sequence.id, prompt, sampling))
            else:
                draft.restore.append((row, run.parked))
                draft.decode.append(row)
                run.parked = None
                self._num_parked -= 1

    def _fly(self, draft: _Draft, parking: dict[int, Run]) -> None:
        """Launch this step; read the one before it if the device runs ahead, else this one."""
        flight = self._launch(draft, parking)
        if self._model.runs_ahead:
            flight, self._in_flight = self._in_flight, flight
        self._read = flight
        if flight is not None:
            self._absorb(flight)

    def _launch(self, draft: _Draft, parking: dict[int, Run]) -> _Flight | None:
        plan = StepPlan(
            free=tuple(draft.free),
            park=tuple(draft.park),
            restore=tuple(draft.restore),
            prefill=tuple(draft.prefill),
            decode=tuple(draft.decode),
        )
        self._plan = plan
        if plan == StepPlan():
            return None
        return _Flight(self._model.launch(plan), plan, drawing=dict(self._held), parking=parking)

    def _absorb(self, flight: _Flight) -> None:
        for result in self._model.collect(flight.pending):
            match result:
                case Token() as drawn:
                    self._append(flight.drawing[drawn.row], drawn)
                case RowFailed(row, code, message):
                    run = flight.drawing[row]
                    self._end(run, Broken(run.sequence, code, message))
                case Parked(row, handle):
                    self._wait_parked(flight.parking[row], handle)

    def _append(self, run: Run, drawn: Token) -> None:
        if run.has_ended:
            return
        sequence, sampling, token = run.sequence, run.sequence.sampling, drawn.token
        if not sequence.tokens:
            sequence.num_cached_tokens = drawn.num_cached_tokens
        sequence.tokens.append(token)
        logprobs = () if drawn.logprobs is None else (drawn.logprobs,)
        self._events.append(Progress(sequence, (token,), logprobs))
        is_eos = token in self._model.eos_ids and not sampling.ignore_eos
        if is_eos or token in sampling.stop_ids:
            self._end(run, Finished(sequence, "stop"))
        elif len(sequence.tokens) >= sampling.max_tokens:
            self._end(run, Finished(sequence, "length"))

    def _wait_parked(self, run: Run, handle: Handle) -> None:
        if run.has_ended:
            self._num_parked -= 1
            return
        run.parked = handle
        run.waiting_since = self._step
        self._scheduler.push(run)

    def _end(self, run: Run, event: Finished | Broken) -> None:
        """End a run once, wherever it is."""
        if run.has_ended:
            return
        run.has_ended = True
        del self._runs[run.sequence.id]
        self._events.append(event)
        if run.row is not None:
            self._release_row(run)
        elif run.parked is not None or run.num_launched == 0:
            self._scheduler.note_ended(run)
            self._num_parked -= run.parked is not None
            run.parked = None

    def _release_row(self, run: Run) -> None:
        self._rows_to_free.append(self._vacate(run))

    def _vacate(self, run: Run) -> int:
        """Take a run's row from it; the row may be given away in the plan that frees or parks it."""
        assert run.row is not None
        row, run.row = run.row, None
        del self._held[row]
        heapq.heappush(self._empty_rows, row)
        return row
