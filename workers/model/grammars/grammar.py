"""Grammars: what a request wants its answer to follow becomes a mask of the tokens that may come next."""

import json
import logging
import secrets
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from transformers import PreTrainedTokenizerBase

from service.contract.grammars import GrammarSpec
from service.errors import BadRequest, ModelFailed, Unavailable
from workers.model.grammars import grammar_check
from workers.model.grammars.grammar_errors import explain
from workers.model.special_tokens import special_ids

log = logging.getLogger(__name__)

NUM_KEPT = 64
# The child stops itself after two seconds of processor time; this is for a machine too busy to give it those.
DEADLINE_SECONDS = 15.0
# The other rows wait for a row's mask: what usual grammars take 20 times over, and more for so many tokens at first.
SECONDS_PER_TOKEN = 0.002
NUM_FREE_TOKENS = 500
_TOO_COMPLEX = "too complex to be tried"


class GrammarConstraint:
    """One sequence's way through a grammar. Ends with the model's end token, which it allows when it may end."""

    def __init__(self, compiled: "_Compiled") -> None:
        self._compiled = compiled
        self._matcher = compiled.matcher.deep_copy()
        self._seconds_left = NUM_FREE_TOKENS * compiled.seconds_per_token

    def allowed(self) -> torch.Tensor:
        """Tokens that may come next, as bits of int32 words: [ceil(vocabulary / 32)]. Never all zero.

        Errors: ModelFailed where the grammar meets a limit on the way.
        """
        begun = time.thread_time()
        words = self._compiled.vocabulary.words_of(self._matcher)
        self._seconds_left += self._compiled.seconds_per_token - (time.thread_time() - begun)
        if self._matcher.is_error() or self._seconds_left < 0:
            raise _too_complex()
        if self._compiled.permitted is not None:
            words &= self._compiled.permitted
            if not words.any():
                return self._compiled.vocabulary.ends.clone()
        return words

    def accept(self, token: int) -> None:
        """The sequence drew this token. What it draws after the end is not looked at."""
        if self._matcher.is_error():
            raise _too_complex()
        if not self._matcher.is_stopped() and not self._matcher.consume_token(token):
            raise ModelFailed(f"Token {token} does not follow the grammar.", code="grammar_left")

    def fresh(self) -> "GrammarConstraint":
        """The same grammar at its beginning."""
        return GrammarConstraint(self._compiled)


class _Vocabulary:
    """A model's tokens as llguidance needs them.

    Special tokens get names that nobody can guess: by their own, `"<|image|>"` in a grammar would mean the token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_ids: Iterable[int], vocab_size: int) -> None:
        size = max(len(tokenizer), vocab_size)
        self.special = special_ids(tokenizer)
        ends = sorted(token for token in eos_ids if token < len(tokenizer))
        # A model that never ends is ended by its limit; until then it says nothing that is shown.
        ends = ends or [tokenizer.eos_token_id or min(self.special)]
        self.tokens = LLTokenizer(_renamed(tokenizer), n_vocab=size, eos_token=ends)
        self._num_words = -(-self.tokens.vocab_size // 32)
        self._num_model_words = -(-vocab_size // 32)
        self.ends = self.bits(ends)

    def words_of(self, matcher: LLMatcher) -> torch.Tensor:
        """The matcher's mask: [ceil(vocabulary / 32)]."""
        words = torch.zeros(self._num_words, dtype=torch.int32)
        matcher.unsafe_compute_mask_ptr(words.data_ptr(), 4 * self._num_words)
        return words[: self._num_model_words]

    def bits(self, tokens: Iterable[int]) -> torch.Tensor:
        """These tokens, as a mask."""
        words = [0] * self._num_model_words
        for token in tokens:
            if token < 32 * len(words):
                words[token // 32] |= 1 << (token % 32)
        return torch.tensor(words, dtype=torch.int64).to(torch.int32)

    def all_but_special(self, granted: frozenset[int]) -> torch.Tensor:
        """Everything except special tokens; ends and `granted` ones may be written."""
        return ~self.bits(self.special - granted) | self.ends


class _Compiled:
    """A grammar that can be followed. permitted: a mask for what it must never write, where it could name such."""

    def __init__(
        self, vocabulary: _Vocabulary, matcher: LLMatcher, spec: GrammarSpec, seconds_per_token: float
    ) -> None:
        self.vocabulary = vocabulary
        self.seconds_per_token = seconds_per_token
        self.matcher = matcher
        self.permitted = vocabulary.all_but_special(spec.special_tokens) if spec.kind == "lark" else None


class Grammars:
    """Compiles grammars for one model and keeps the last ones. Threads may compile at once."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        vocab_size: int,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        seconds_per_token: float = SECONDS_PER_TOKEN,
    ) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._vocab_size = vocab_size
        self._deadline_seconds = deadline_seconds
        self._seconds_per_token = seconds_per_token
        self._lock = threading.Lock()
        self._kept: OrderedDict[GrammarSpec, Future[_Compiled]] = OrderedDict()

    def compile(self, spec: GrammarSpec, *, param: str = "response_format") -> GrammarConstraint:
        """A constraint at the grammar's beginning. param: the request's field, for errors.

        Errors: BadRequest (`invalid_grammar`) for a grammar that is wrong, impossible, too large or too slow;
        Unavailable where this machine is too busy to find out.
        """
        with self._lock:
            known = self._kept.get(spec)
            promise: Future[_Compiled] = known or Future()
            self._kept[spec] = promise
            self._kept.move_to_end(spec)
            while len(self._kept) > NUM_KEPT:
                self._kept.popitem(last=False)
        if known is None:
            self._keep(promise, spec)
        try:
            return GrammarConstraint(promise.result())
        except BadRequest as refusal:
            raise BadRequest(refusal.message, param=param, code=refusal.code, hint=refusal.hint) from None

    def _keep(self, promise: "Future[_Compiled]", spec: GrammarSpec) -> None:
        """Compile for everyone who asks. A refusal is kept too, but not what another attempt may not meet."""
        try:
            promise.set_result(self._compiled(spec))
        except BaseException as error:
            if not isinstance(error, BadRequest):
                with self._lock:
                    self._kept.pop(spec, None)
            promise.set_exception(error)

    def _compiled(self, spec: GrammarSpec) -> _Compiled:
        vocabulary = self._vocabulary
        num_tokens = vocabulary.tokens.vocab_size if "<[" in spec.source else 0
        _refuse(spec, _error_in_child(spec, num_tokens, self._deadline_seconds))
        matcher = grammar_check.matcher(vocabulary.tokens, spec.kind, spec.source)
        _refuse(spec, matcher.get_error())
        compiled = _Compiled(vocabulary, matcher, spec, self._seconds_per_token)
        first = compiled.matcher.deep_copy()
        vocabulary.words_of(first)
        _refuse(spec, first.get_error())
        return compiled

    @cached_property
    def _vocabulary(self) -> _Vocabulary:
        try:
            return _Vocabulary(self._tokenizer, self._eos_ids, self._vocab_size)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise BadRequest(
                "This model's tokenizer has a form that cannot follow grammars.", code="unsupported_parameter"
            ) from error


def _renamed(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's own JSON, its special tokens under secret names."""
    fields: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    secret = secrets.token_hex(16)
    added = [token for token in fields["added_tokens"] if token["special"]]
    names = {token["content"]: f"{secret}-{token['id']}" for token in added}
    for token in added:
        token["content"] = names[token["content"]]
    vocabulary = fields["model"].get("vocab")
    if isinstance(vocabulary, dict):
        fields["model"]["vocab"] = {names.get(text, text): number for text, number in vocabulary.items()}
    # They would name special tokens that are no more.
    fields |= {"post_processor": None, "padding": None, "truncation": None}
    if fields["model"].get("unk_token") in names:
        fields["model"]["unk_token"] = names[fields["model"]["unk_token"]]
    return json.dumps(fields)


def _error_in_child(spec: GrammarSpec, num_tokens: int, deadline_seconds: float) -> str | None:
    """llguidance's complaint about a grammar, or our own where it hangs, crashes or takes too much."""
    command = [sys.executable, "-I", str(Path(grammar_check.__file__))]
    request = json.dumps({"kind": spec.kind, "source": spec.source, "num_tokens": num_tokens}).encode()
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=deadline_seconds)
    except subprocess.TimeoutExpired:
        raise Unavailable("This worker is too busy to check the grammar.", retry_after=5) from None
    if done.returncode < 0 or done.returncode == grammar_check.EXHAUSTED:
        return _TOO_COMPLEX
    if done.returncode:
        log.error("the grammar check does not run: %s", done.stderr.decode(errors="replace")[-500:])
        raise ModelFailed("Grammars cannot be checked on this worker.", code="grammar_check_failed")
    error: str | None = json.loads(done.stdout)["error"]
    return error


def _refuse(spec: GrammarSpec, error: str | None) -> None:
    if error:
        raise BadRequest(explain(spec.kind, error), code="invalid_grammar")


def _too_complex() -> ModelFailed:
    return ModelFailed(
        "The grammar became too complex on the way.",
        code="grammar_too_complex",
        hint="Write a simpler schema, grammar or pattern, with fewer repetitions.",
    )
