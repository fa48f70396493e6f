"""Grammars: whatever a model draws from what they allow is what the request asked for, and it ends."""

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from family_processors import byte_tokenizer
from grammar_walks import KINDS, allowed_tokens, bits, follow, grammars, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.grammars import ANY_OBJECT, GrammarKind, GrammarSpec
from service.errors import BadRequest, ModelFailed, Unavailable
from workers.model.grammars.grammar import GrammarConstraint, Grammars

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 3},
        "kind": {"enum": ["cat", "dög", None, 3]},
        "spouse": {"anyOf": [{"$ref": "#/$defs/short"}, {"type": "null"}]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
    "$defs": {"short": {"type": "object", "properties": {"id": {"type": "number"}}, "required": ["id"]}},
}
TREE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}},
    "required": ["children"],
    "additionalProperties": False,
}
TAGGED = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"is": {"const": "a"}, "n": {"type": "integer"}},
            "required": ["is"],
        },
        {"type": "object", "properties": {"is": {"const": "b"}}, "required": ["is"]},
    ]
}


def schema(value: dict[str, Any]) -> GrammarSpec:
    return GrammarSpec("json_schema", json.dumps(value))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=12)
def test_whatever_is_drawn_under_a_schema_is_json_that_the_schema_allows(kind: str, seed: int) -> None:
    for wanted in (PERSON, TREE, TAGGED):
        text = follow(kind, grammars(kind).compile(schema(wanted)), seed)

        if text is not None:
            jsonschema.validate(json.loads(text), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_random_answers_mostly_end_by_themselves(kind: str) -> None:
    ended = [follow(kind, grammars(kind).compile(schema(PERSON)), seed) for seed in range(20)]

    assert sum(text is not None for text in ended) >= 15


@pytest.mark.parametrize("kind", KINDS)
def test_json_object_gives_an_object_and_nothing_around_it(kind: str) -> None:
    texts = [
        follow(kind, grammars(kind).compile(GrammarSpec("json_schema", ANY_OBJECT)), n) for n in range(10)
    ]

    assert any(texts)
    for text in texts:
        if text is not None:
            assert isinstance(json.loads(text), dict)
            assert text == text.strip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [
        ('{"a":1,"b":[1,2]}', True),
        ('{"a": 1, "b": [1, 2]}', True),
        ('{"a":  1,"b":[1]}', False),
        ('{ "a":1,"b":[1]}', False),
        ('{"a":1,\n"b":[1]}', False),
    ],
)
def test_json_has_no_white_space_to_get_lost_in(kind: str, text: str, is_allowed: bool) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}}
    wanted = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": numbers},
        "required": ["a", "b"],
    }

    assert follows(kind, grammars(kind).compile(schema(wanted)), text) is is_allowed


def follows(kind: str, constraint: GrammarConstraint, text: str) -> bool:
    for token in tokenizer(kind).encode(text, add_special_tokens=False):
        if token not in allowed_tokens(constraint):
            return False
        constraint.accept(token)
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "pattern", [r"[A-Z][a-z]{1,8}( \d+)?", r"é+|日本|[α-ω]{2,4}", r"(a|b)*c{2,3}", r"x/y\nz"]
)
def test_whatever_is_drawn_under_a_regex_matches_it_whole(kind: str, pattern: str) -> None:
    for seed in range(8):
        text = follow(kind, grammars(kind).compile(GrammarSpec("regex", pattern)), seed)

        assert text is not None
        assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("kind", KINDS)
def test_lark_grammars_may_recurse(kind: str) -> None:
    sums = 'start: sum\nsum: item ("+" item)*\nitem: /[0-9]{1,3}/ | "(" sum ")"\n'
    ended = [follow(kind, grammars(kind).compile(GrammarSpec("lark", sums)), seed) for seed in range(10)]

    for text in filter(None, ended):
        assert re.fullmatch(r"[0-9+()]+", text)
        assert text.count("(") == text.count(")")
    assert any(ended)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_cannot_be_written_by_their_name_or_number(kind: str) -> None:
    chosen = tokenizer(kind)
    special = set(chosen.all_special_ids) | {
        number for number, token in chosen.added_tokens_decoder.items() if token.special
    }
    names = [token.content for token in chosen.added_tokens_decoder.values() if token.special]
    for name in names[:3]:
        for spec in (schema({"const": name}), GrammarSpec("lark", f"start: {json.dumps(name)}")):
            constraint = grammars(kind).compile(spec)
            while chosen.eos_token_id not in (allowed := allowed_tokens(constraint)):
                assert not special & set(allowed)
                constraint.accept(allowed[0])
    number = min(special - {chosen.eos_token_id})
    named = grammars(kind).compile(GrammarSpec("lark", f'start: <[{number}]> | "ab"'))
    assert number not in allowed_tokens(named)


def test_a_grammar_that_only_a_special_token_could_begin_ends_at_once() -> None:
    constraint = grammars("bundled").compile(GrammarSpec("lark", 'start: <[7]> "ab"'))

    assert allowed_tokens(constraint) == [tokenizer("bundled").eos_token_id]


def test_special_tokens_that_were_granted_can_be_written() -> None:
    spec = GrammarSpec("lark", 'start: <[7]> "ab"', frozenset({7}))

    assert allowed_tokens(grammars("bundled").compile(spec)) == [7]


def test_the_end_is_allowed_when_the_grammar_may_end_and_is_all_that_is_left_when_it_must() -> None:
    chosen = tokenizer("bytes")
    constraint = grammars("bytes").compile(GrammarSpec("regex", "ab?"))
    seen = []
    for token in chosen.encode("ab", add_special_tokens=False):
        seen.append(chosen.eos_token_id in allowed_tokens(constraint))
        constraint.accept(token)

    assert seen == [False, True]
    assert allowed_tokens(constraint) == [chosen.eos_token_id]
    # A request that ignores the end goes on drawing it.
    for _ in range(3):
        assert isinstance(chosen.eos_token_id, int)
        constraint.accept(chosen.eos_token_id)
        assert allowed_tokens(constraint) == [chosen.eos_token_id]


def test_all_of_a_models_end_tokens_may_end_a_grammar() -> None:
    chosen = tokenizer("bundled")
    constraint = Grammars(chosen, frozenset({1, 5, 10_000}), 1024).compile(GrammarSpec("regex", "a"))
    constraint.accept(chosen.encode("a", add_special_tokens=False)[0])

    assert allowed_tokens(constraint) == [1, 5]


def test_a_model_without_an_end_token_is_given_nothing_that_would_show() -> None:
    chosen = byte_tokenizer(["<mark>"])
    constraint = Grammars(chosen, frozenset(), len(chosen)).compile(GrammarSpec("regex", "a"))
    constraint.accept(chosen.encode("a", add_special_tokens=False)[0])

    assert chosen.decode(allowed_tokens(constraint), skip_special_tokens=True) == ""


def test_a_mask_has_the_size_of_the_models_vocabulary() -> None:
    chosen = tokenizer("bundled")
    for vocab_size in (1000, 1024, 1025, 2000):
        constraint = Grammars(chosen, frozenset({1}), vocab_size).compile(GrammarSpec("regex", "[a-z]+"))

        assert constraint.allowed().shape == ((vocab_size + 31) // 32,)
        assert bits(constraint.allowed()) > 26


def test_a_fresh_constraint_begins_again_and_leaves_the_other_alone() -> None:
    constraint = grammars("bytes").compile(GrammarSpec("regex", "ab"))
    begin = allowed_tokens(constraint)
    constraint.accept(begin[0])

    assert allowed_tokens(constraint.fresh()) == begin
    assert allowed_tokens(constraint) != begin


def test_a_token_that_does_not_follow_the_grammar_is_an_error_of_its_sequence() -> None:
    constraint = grammars("bytes").compile(GrammarSpec("regex", "ab"))

    with pytest.raises(ModelFailed):
        constraint.accept(allowed_tokens(constraint)[0] + 1)
    with pytest.raises(ModelFailed):
        constraint.allowed()


def test_a_grammar_is_compiled_once_however_many_ask_for_it_at_a_time() -> None:
    chosen = grammars("bundled")
    spec = schema({"const": "asked by many"})
    begun = time.monotonic()
    chosen.compile(spec)
    first = time.monotonic() - begun

    with ThreadPoolExecutor(4) as pool:
        begun = time.monotonic()
        constraints = list(pool.map(lambda _: chosen.compile(spec), range(50)))
    assert time.monotonic() - begun < 10 * first
    assert len({id(constraint) for constraint in constraints}) == 50
    assert len({tuple(allowed_tokens(constraint)) for constraint in constraints}) == 1


def lark_chain(levels: int, name: str) -> str:
    links = [f'{name}{i}: {name}{i + 1} "x"?' for i in range(levels)]
    return "\n".join([f"start: {name}0", *links, f'{name}{levels}: "a"'])


def ref_chain(levels: int) -> dict[str, Any]:
    links: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(levels)}
    return {"$defs": {**links, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, tuple[GrammarKind, Callable[[], str]]] = {
    "a chain of references that overflows the stack": ("json_schema", lambda: json.dumps(ref_chain(1500))),
    "a chain of rules that overflows the stack": ("lark", lambda: lark_chain(3000, "a")),
    "a chain of terminals that takes for ever": ("lark", lambda: lark_chain(2500, "A")),
    "terminals that double sixty times": (
        "lark",
        lambda: "\n".join(["start: A0", *(f"A{i}: A{i + 1} A{i + 1}" for i in range(60)), 'A60: "a"']),
    ),
    "rules that double sixty times": (
        "lark",
        lambda: "\n".join(["start: a0", *(f"a{i}: a{i + 1} a{i + 1}" for i in range(60)), 'a60: "a"']),
    ),
    "three languages at once": ("lark", lambda: "start: A\nA: /(.*a.{15})/ & /(.*b.{14})/ & /(.*c.{13})/"),
    "repetitions of repetitions": ("regex", lambda: "((a{1,1000}){1,1000}){1,1000}"),
    "brackets within brackets": ("regex", lambda: "(" * 20_000 + "a" + ")*" * 20_000),
    "thousands of optional words": ("lark", lambda: "start: " + " ".join(f'"a{i}"?' for i in range(3000))),
    "all combinations": (
        "json_schema",
        lambda: json.dumps(
            {
                "allOf": [
                    {"anyOf": [{"properties": {f"a{i}": {"const": j}}} for j in range(4)]} for i in range(12)
                ]
            }
        ),
    ),
    "a multiple of a large prime": ("json_schema", lambda: '{"type": "integer", "multipleOf": 999999937}'),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_is_refused_and_the_worker_lives(name: str) -> None:
    kind, source = HOSTILE[name]
    begun = time.monotonic()

    with pytest.raises(BadRequest) as refused:
        grammars("bundled").compile(GrammarSpec(kind, source()), param="grammar")

    assert (refused.value.code, refused.value.param) == ("invalid_grammar", "grammar")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("json_schema", '{"type": "array", "uniqueItems": true}', "uses 'uniqueItems'"),
        ("json_schema", '{"type": "string", "format": "zip"}', "the format 'zip'"),
        ("json_schema", '{"$ref": "#/$defs/nope"}', "'/$defs/nope'"),
        ("json_schema", '{"$ref": "http://127.0.0.1/x"}', "another document"),
        ("json_schema", '{"$ref": "#"}', "cannot be satisfied"),
        ("json_schema", '{"type": "integer", "minimum": 5, "maximum": 3}', "minimum (5) is greater"),
        ("json_schema", '{"type": "string", "pattern": "["}', "unclosed character class"),
        ("json_schema", '{"oneOf": [{"minimum": 1}, {"maximum": 5}]}', "`oneOf`"),
        ("regex", "(a", "unclosed group"),
        ("regex", "((a{1,1000}){1,1000}){1,1000}", "too complex"),
        ("regex", r"(a)\1", "backreferences"),
        ("regex", r"\bfoo", "word boundaries"),
        ("regex", r"[^\s\S]", "cannot be satisfied"),
        ("lark", "start: b", "line(column) 1(8): unknown name: 'b'"),
        ("lark", "begin: /a/", "no rule named 'start'"),
        ("lark", "start: <|image|>", "special token"),
        ("lark", 'start: "a', "line(column)"),
        ("lark", "start: %json {", "is not valid"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_grammar(kind: GrammarKind, source: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        grammars("bundled").compile(GrammarSpec(kind, source))

    assert said in refused.value.message


def test_a_refusal_is_remembered_with_the_field_of_the_one_who_asks() -> None:
    wrong = GrammarSpec("regex", "(remembered")
    for param in ("grammar", "tools[0]"):
        with pytest.raises(BadRequest) as refused:
            grammars("bytes").compile(wrong, param=param)
        assert refused.value.param == param


def test_a_check_that_comes_to_no_end_is_stopped_and_may_be_tried_again() -> None:
    chosen = tokenizer("bytes")
    hasty = Grammars(chosen, frozenset({1}), len(chosen), deadline_seconds=0.001)
    for _ in range(2):
        with pytest.raises(Unavailable):
            hasty.compile(GrammarSpec("regex", "a"))


def test_a_grammar_that_keeps_its_neighbours_waiting_fails_alone() -> None:
    chosen = tokenizer("bytes")
    impatient = Grammars(chosen, frozenset({1}), len(chosen), seconds_per_token=0.0)
    constraint = impatient.compile(GrammarSpec("regex", "[a-z]*"))

    with pytest.raises(ModelFailed):
        constraint.allowed()


def test_a_tokenizer_that_no_grammar_can_follow_is_said_to_be_one() -> None:
    class Slow:
        all_special_ids = ()
        added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012
        eos_token_id = 0

        def __len__(self) -> int:
            return 8

    with pytest.raises(BadRequest, match="tokenizer"):
        Grammars(Slow(), frozenset(), 8).compile(GrammarSpec("regex", "a"))  # type: ignore[arg-type]
