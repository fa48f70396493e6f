"""Requests made up from /openapi.json, valid and wrong: never a 5xx, never an answer that it does not describe."""

import json
import tempfile
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from wire_server import Wire

from service.api.app import create_app
from service.settings import Settings

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


described = schemathesis.openapi.from_dict(create_app(Settings(data_dir=Path(tempfile.mkdtemp()))).api_doc)


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def as_lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    lines = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@described.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: schemathesis.Case, wire: Wire) -> None:
    for secret in (wire.cats, wire.dogs):
        case.call_and_validate(
            base_url=wire.url, checks=CHECKS, headers={"Authorization": f"Bearer {secret}"}, timeout=60
        )
