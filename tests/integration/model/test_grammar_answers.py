"""Answers of the bundled model that follow a grammar: they do, they end, and who shares the batch does not notice."""

import json
from collections.abc import Callable, Sequence

import jsonschema
import pytest
from drawn_media import ask, picture
from pydantic import TypeAdapter

from service.contract.grammars import GrammarSpec
from service.contract.tools import Tool, template_tools
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Broken, Constraint, Finished, Sampling
from workers.engine.protocol import Sequence as Asked
from workers.model.calling.tools import ToolCall
from workers.model.loading import Loaded
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

THING = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue", "yellow"]},
        "shape": {"enum": ["circle", "square", "triangle"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["colour", "shape", "count"],
    "additionalProperties": False,
}
TOOLS = TypeAdapter(list[Tool]).validate_python(
    [{"type": "function", "function": {"name": "note_thing", "strict": True, "parameters": THING}}]
)


@pytest.fixture(scope="module")
def model(bundled: Callable[[int | None], Loaded]) -> Loaded:
    return bundled(None)


def text_of(model: Loaded, tokens: Sequence[int], keep: frozenset[int] = frozenset()) -> str:
    detokenizer = model.prompter.detokenizer(keep)
    return detokenizer.push(tokens) + detokenizer.finish()


def answers(
    model: Loaded, wanted: Sequence[tuple[Prepared, Constraint | None]], **sampling: float
) -> list[tuple[str, list[int]]]:
    """Why each answer ended and its tokens, from three slots for all."""
    slots = TorchSlotModel(model.model, num_slots=3, max_context_tokens=700, eos_ids=model.prompter.eos_ids)
    engine = Engine(slots, EngineConfig())
    for number, (prompt, constraint) in enumerate(wanted):
        engine.submit(
            Asked(number, prompt, Sampling(max_tokens=120, constraint=constraint, seed=number, **sampling))
        )  # type: ignore[arg-type]
    ended: dict[int, tuple[str, list[int]]] = {}
    while engine.has_work:
        for event in engine.step():
            assert not isinstance(event, Broken)
            if isinstance(event, Finished):
                ended[event.sequence.id] = (event.reason, event.sequence.tokens)
    return [ended[number] for number in range(len(wanted))]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_answers_follow_their_grammars_and_leave_their_neighbours_alone(
    model: Loaded, temperature: float
) -> None:
    prompts = [
        model.prompter.prepare(*ask("What is in the picture?", picture("square", colour)))
        for colour in ("blue", "red", "green")
    ]
    hello = model.prompter.prepare(*ask("Hello!"))
    compile = model.prompter.grammars.compile
    schema = GrammarSpec("json_schema", json.dumps(THING))
    digits = GrammarSpec("regex", r"[0-9]{3}(-[a-f]{2}){1,2}")
    crowd: list[tuple[Prepared, Constraint | None]] = [
        (hello, None),
        (prompts[0], compile(schema)),
        (prompts[1], compile(schema)),
        (prompts[2], None),
        (hello, compile(digits)),
        (prompts[0], None),
    ]
    free = [(prompt, None) for prompt, _ in crowd]

    together = answers(model, crowd, temperature=temperature)
    without = answers(model, free, temperature=temperature)

    for number in (1, 2):
        reason, tokens = together[number]
        assert reason == "stop", text_of(model, tokens)
        jsonschema.validate(json.loads(text_of(model, tokens)), THING)
    reason, tokens = together[4]
    assert reason == "stop"
    jsonschema.validate(text_of(model, tokens), {"type": "string", "pattern": f"^{digits.source}$"})
    for number in (0, 3, 5):
        assert together[number] == without[number]


def test_a_strict_tool_is_called_by_a_model_that_has_no_way_of_its_own(model: Loaded) -> None:
    chosen = model.prompter.tool_format
    spec = chosen.grammar(TOOLS, "required", parallel=False)
    assert spec is not None
    messages, media = ask("What is in the picture?", picture("square", "blue"))
    prompt = model.prompter.prepare(messages, media, tools=template_tools(TOOLS))

    [(reason, tokens)] = answers(model, [(prompt, model.prompter.grammars.compile(spec, param="tools"))])

    assert reason == "stop", text_of(model, tokens)
    parser = chosen.parser(TOOLS)
    events = parser.push(text_of(model, tokens, chosen.keep_tokens)) + parser.finish()
    assert [type(event) for event in events] == [ToolCall]
    assert isinstance(events[0], ToolCall)
    assert events[0].name == "note_thing"
    jsonschema.validate(json.loads(events[0].arguments), THING)
