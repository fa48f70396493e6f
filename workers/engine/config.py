"""How the engine shares its slots and its time."""

from dataclasses import dataclass

CHAT_PRIORITY = 0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Limits of one engine; counts are rows, tokens or steps as their names say.

    reserved_chat_slots: slots that bulk never takes (at least one slot is always left to bulk).
    max_prefill_tokens, max_prefill_bytes: prompt tokens, and bytes of prepared inputs, taken in during one step; a
    larger prompt comes in alone.
    max_bulk_tokens_beside_chat: of bulk prompts in one step, while chats come: a chat that arrives in the middle of a
    step waits for its end. chat_memory_seconds: how long after a chat another one is expected.
    num_first_tokens: what a chat needs for its first words; until it has drawn them, no prompt of bulk comes in.
    prefill_group: bulk waits until this many slots are free, so that prompts share a forward, but no longer than
    max_group_wait_steps.
    max_kv_tokens: prompt and answer tokens of all running sequences together; None leaves it to the slots.
    max_parked_rows: bulk rows that may lie outside their slots at a time; 0 turns parking off.
    max_parks: how often one sequence may be parked. max_bulk_wait_steps: a bulk sequence that has waited longer
    goes before chat and is no longer parked.
    """

    reserved_chat_slots: int = 0
    max_prefill_tokens: int = 4096
    max_prefill_bytes: int = 256 << 20
    max_bulk_tokens_beside_chat: int = 1024
    chat_memory_seconds: float = 15.0
    num_first_tokens: int = 4
    prefill_group: int = 4
    max_group_wait_steps: int = 8
    max_kv_tokens: int | None = None
    max_parked_rows: int = 16
    max_parks: int = 2
    max_bulk_wait_steps: int = 2048
