"""What a submission may say, and that our objects are ones that the openai client reads."""

from typing import Any

import openai.types
import pytest
from pydantic import ValidationError

from service.contract.batches import BatchObject, BatchUsage, CreateBatch, RequestCounts
from service.contract.files import FileObject
from service.contract.job_objects import job_number, wire_id
from service.contract.plain_errors import bad_request
from service.errors import NotFound


def create(**fields: Any) -> CreateBatch:
    return CreateBatch.model_validate({"input_file_id": "file-1", **fields})


def test_a_window_is_hours_or_days() -> None:
    assert create(completion_window="24h").window_seconds == 86400
    assert create(completion_window="2d").window_seconds == 2 * 86400
    assert create().window_seconds is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"completion_window": "31d"}, "completion_window"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"priority": 0}, "priority"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"defualts": {}}, "defualts"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        create(**fields)
    assert bad_request(refusal.value).param == param


def test_the_openai_client_reads_our_objects() -> None:
    batch = BatchObject(
        id="batch_1",
        endpoint="/v1/chat/completions",
        input_file_id="file-1",
        completion_window="24h",
        status="in_progress",
        created_at=1,
        request_counts=RequestCounts(total=3, completed=1),
        usage=BatchUsage(input_tokens=5),
    )
    file = FileObject(id="file-1", bytes=3, created_at=1, filename="a.jsonl", purpose="batch")

    theirs = openai.types.Batch.model_validate(batch.model_dump())
    assert theirs.request_counts is not None
    assert theirs.request_counts.total == 3
    assert openai.types.FileObject.model_validate(file.model_dump()).bytes == 3


def test_a_jobs_wire_id_goes_there_and_back() -> None:
    assert job_number(wire_id(12)) == 12
    for wrong in ("12", "job_", "job_012", "job_x", "job_1 ", "batch_1"):
        with pytest.raises(NotFound):
            job_number(wrong)
