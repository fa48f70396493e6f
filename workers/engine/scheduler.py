"""Who gets the free slots of this step, and who has to leave one."""

import time
from collections.abc import Callable, Collection

from workers.engine.config import EngineConfig
from workers.engine.lanes import Lane, Run


class Scheduler:
    """Two lanes and the rules between them.

    Chat goes first and may use every slot; bulk leaves the reserved ones alone. Bulk that has waited too long goes
    before chat, one run per step. No step takes in more prompt tokens than its budget, so decoding goes on; while chats
    come, it takes in fewer of bulk, so that a chat is not kept waiting by a long step. clock: monotonic seconds.
    """

    def __init__(
        self, config: EngineConfig, num_slots: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._num_slots = num_slots
        self._num_bulk_slots = num_slots - min(config.reserved_chat_slots, num_slots - 1)
        self._num_group_wait_steps = 0
        self._clock = clock
        self._chat_expected_until = 0.0
        self.chat = Lane()
        self.bulk = Lane()

    @property
    def num_waiting(self) -> int:
        """Runs without a slot."""
        return len(self.chat) + len(self.bulk)

    def push(self, run: Run) -> None:
        """Let a run wait for a slot."""
        if run.is_chat:
            self._chat_expected_until = self._clock() + self._config.chat_memory_seconds
        self._lane(run).push(run)

    def note_ended(self, run: Run) -> None:
        """A waiting run has ended."""
        self._lane(run).note_ended()

    def admit(self, running: Collection[Run], step: int) -> list[Run]:
        """Take runs out of the lanes for the free slots, most urgent first. running: those that hold a slot."""
        room = _Room(self._config, self._num_slots, self._num_bulk_slots, running)
        if self._clock() < self._chat_expected_until:
            room.num_bulk_tokens = self._config.max_bulk_tokens_beside_chat
        admitted: list[Run] = []
        if self._bulk_is_overdue(step) and room.fits(self.bulk.head()):
            admitted.append(room.take(self.bulk))
            # It waited long enough once: from here on nobody moves it aside.
            admitted[0].num_parks = self._config.max_parks
        chat_comes_in = False
        while room.fits(self.chat.head()):
            admitted.append(room.take(self.chat))
            chat_comes_in = True
        # Bulk beside a chat's prompt, or between its first tokens, would only make its first word later.
        if (
            self.chat.head() is None
            and not chat_comes_in
            and not any(self._speaks_soon(run) for run in running)
            and self._group_is_ready(room.num_bulk_slots, is_idle=not running)
        ):
            while room.fits(self.bulk.head()):
                admitted.append(room.take(self.bulk))
        return admitted

    def to_park(self, running: Collection[Run], num_parked: int) -> list[Run]:
        """Bulk runs that should leave their slots to waiting chats, those that arrived last first."""
        num_missing = len(self.chat) - (self._num_slots - len(running))
        movable = [run for run in running if self._may_park(run)]
        movable.sort(reverse=True)
        return movable[: max(0, min(num_missing, self._config.max_parked_rows - num_parked))]

    def _speaks_soon(self, run: Run) -> bool:
        return run.is_chat and len(run.sequence.tokens) < self._config.num_first_tokens

    def _may_park(self, run: Run) -> bool:
        return not run.is_chat and run.num_parks < self._config.max_parks and not run.is_launched_out

    def _bulk_is_overdue(self, step: int) -> bool:
        head = self.bulk.head()
        return head is not None and step - head.waiting_since > self._config.max_bulk_wait_steps

    def _group_is_ready(self, num_free_slots: int, *, is_idle: bool) -> bool:
        """Hold bulk back for a few steps until a group of slots is free: prompts that share a forward are cheaper."""
        head = self.bulk.head()
        if head is None or num_free_slots == 0:
            return False
        group = min(self._config.prefill_group, len(self.bulk), self._num_bulk_slots)
        waited = self._num_group_wait_steps >= self._config.max_group_wait_steps
        if is_idle or waited or num_free_slots >= group or head.parked is not None:
            self._num_group_wait_steps = 0
            return True
        self._num_group_wait_steps += 1
        return False

    def _lane(self, run: Run) -> Lane:
        return self.chat if run.is_chat else self.bulk


class _Room:
    """What is left to give in this step: slots, slots that bulk may take, prompt tokens and bytes, KV tokens."""

    def __init__(
        self, config: EngineConfig, num_slots: int, num_bulk_slots: int, running: Collection[Run]
    ) -> None:
        self._num_slots = num_slots - len(running)
        self.num_bulk_slots = min(self._num_slots, num_bulk_slots - sum(not run.is_chat for run in running))
        self._num_prefill_tokens = config.max_prefill_tokens
        self._num_prefill_bytes = config.max_prefill_bytes
        self.num_bulk_tokens = config.max_prefill_tokens
        self._num_kv_tokens = config.max_kv_tokens
        if self._num_kv_tokens is not None:
            self._num_kv_tokens -= sum(run.num_kv_tokens for run in running)
        self._has_prefill = False

    def fits(self, run: Run | None) -> bool:
        """Whether this run can be taken; the first prompt of a step may be longer than the budget."""
        if run is None or (self._num_slots if run.is_chat else self.num_bulk_slots) <= 0:
            return False
        if self._num_kv_tokens is not None and run.num_kv_tokens > self._num_kv_tokens:
            return False
        if run.parked is not None or not self._has_prefill:
            return True
        prompt = run.sequence.prompt
        num_tokens = self._num_prefill_tokens
        if not run.is_chat:
            num_tokens = min(num_tokens, self.num_bulk_tokens)
        return prompt.num_tokens <= num_tokens and prompt.num_bytes <= self._num_prefill_bytes

    def take(self, lane: Lane) -> Run:
        """Take the head of a lane, which fits."""
        run = lane.pop()
        self._num_slots -= 1
        self.num_bulk_slots = min(self._num_slots, self.num_bulk_slots - (not run.is_chat))
        if self._num_kv_tokens is not None:
            self._num_kv_tokens -= run.num_kv_tokens
        if run.parked is None:
            self._has_prefill = True
            self._num_prefill_tokens -= run.sequence.prompt.num_tokens
            self.num_bulk_tokens -= run.sequence.prompt.num_tokens
            self._num_prefill_bytes -= run.sequence.prompt.num_bytes
        return run
