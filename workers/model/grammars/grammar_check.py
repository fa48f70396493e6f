"""Tries a stranger's grammar in a process of its own, which may hang, overflow its stack or eat its memory alone.

Run as a script, so that it starts in a tenth of a second: nothing here may import torch or anything of ours.
stdin: {"kind", "source", "num_tokens"}. stdout: {"error": null or llguidance's own text}.
"""

import json
import random
import resource
import sys
import threading

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

CPU_SECONDS = 2
MEMORY_BYTES = 1 << 30
# An eighth of a thread's usual stack: what fits here fits wherever the grammar is used.
STACK_BYTES = 1 << 20
WALKED_TOKENS = 24
EXHAUSTED = 3
# One space after a comma or a colon, or none: in free white space small models get lost until their tokens are gone.
JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ",[ ]?", "key_separator": ":[ ]?"}


def limits() -> LLParserLimits:
    """What a grammar may cost: most steps under 50 ms, and at most some 40 MB for the states of its lexer.

    step_max_items: an object of 150 optional properties needs 2,500; at 20,000 an ambiguous grammar took 250 ms a step.
    """
    return LLParserLimits(
        step_lexer_fuel=100_000,
        step_max_items=6_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        # Eager work on a tokenizer's whole trie would not be done here, where it could do no harm.
        precompute_large_lexemes=False,
        verbose_errors=False,
    )


def matcher(tokenizer: LLTokenizer, kind: str, source: str) -> LLMatcher:
    """Compile a grammar of any kind; what is wrong with it is the matcher's `get_error()`. Raises ValueError."""
    match kind:
        case "json_schema":
            grammar = LLMatcher.grammar_from_json_schema(source, overrides=JSON_OPTIONS)  # type: ignore[arg-type]
        case "regex":
            grammar = LLMatcher.grammar_from_regex(source)
        case _:
            grammar = LLMatcher.grammar_from_lark(source)
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits())


class _Bytes:
    """A tokenizer of 256 bytes and an end, and of nothing at all for the other numbers."""

    eos_token_id, bos_token_id, special_token_ids = 256, None, (256,)

    def __init__(self, num_tokens: int) -> None:
        bytes_and_end = [*(bytes([byte]) for byte in range(256)), b"<end>"]
        self.tokens = bytes_and_end + [b""] * (num_tokens - len(bytes_and_end))

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def check(kind: str, source: str, num_tokens: int) -> str | None:
    """Compile a grammar over single bytes and follow it for some tokens. num_tokens: what numbers it may name."""
    try:
        found = matcher(LLTokenizer(TokenizerWrapper(_Bytes(num_tokens))), kind, source)
    except ValueError as error:
        return str(error)
    draw = random.Random(0)
    for _ in range(WALKED_TOKENS):
        if found.is_stopped():
            break
        mask = int.from_bytes(found.compute_bitmask(), "little")
        allowed = [byte for byte in range(256) if mask >> byte & 1]
        # The end is 256; of the numbers after it one is enough.
        allowed += [256 + (beyond & -beyond).bit_length()] if (beyond := mask >> 257) else []
        if found.is_error() or not allowed:
            break
        found.consume_token(draw.choice(allowed))
    return found.get_error() or None


def main() -> None:
    """Confine this process, then check what stands in stdin."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request = json.load(sys.stdin)
    errors: list[str | None] = []
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=lambda: errors.append(check(**request)))
    thread.start()
    thread.join()
    if not errors:  # the thread died: of a lack of memory, or of a panic
        sys.exit(EXHAUSTED)
    json.dump({"error": errors[0]}, sys.stdout)


if __name__ == "__main__":
    main()
