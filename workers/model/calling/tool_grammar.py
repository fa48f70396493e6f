"""Rules that the grammars of all call formats share."""

import json
from typing import Any

from service.contract.tools import Tool
from workers.model.grammars.grammar_check import JSON_OPTIONS

ANY_TEXT = "TEXT: /(.|\\n)*/\n"


def alternatives(rule: str, count: int) -> str:
    """`rule_0 | rule_1 | …`"""
    return " | ".join(f"{rule}_{i}" for i in range(count))


def repeated(rule: str, separator: str, *, parallel: bool) -> str:
    """One, or several with a separator between them."""
    return f"{rule} ({separator} {rule})*" if parallel else rule


def schema_of(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments."""
    return {"type": "object", "properties": {}} | (tool.function.parameters or {})


def json_rule(name: str, tool: Tool) -> str:
    """A rule for arguments as JSON. Where the tool is not strict, what cannot be enforced is left to the model."""
    options = JSON_OPTIONS | {"lenient": not tool.function.strict}
    return f"{name}: %json {json.dumps(schema_of(tool) | {'x-guidance': options})}\n"
