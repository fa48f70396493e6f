"""Names that no database likes are unknown names, not accidents."""

import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from workplace import accept, manifest, rows, work

from service.actions.cancel_batch import cancel_batch
from service.actions.export_results import export_results
from service.actions.parts import Parts
from service.actions.read_batches import get_batch, list_batches
from service.actions.read_files import delete_file, get_file, list_files, open_file
from service.actions.read_jobs import get_job, list_jobs
from service.actions.submit_batch import submit_batch
from service.actions.submit_job import submit_job
from service.actions.upload_file import upload_file
from service.contract.batches import CreateBatch
from service.contract.callers import Caller
from service.errors import BadRequest, NotFound

ODD_NAMES = ["a\0b", "", "\udcff", "file-" + "0" * 24 + "\n", "x" * 5000, "'; --", "\u202e"]


LOOKS: list[Callable[..., Any]] = [get_file, open_file, delete_file, get_batch, cancel_batch, get_job]


def test_an_odd_id_is_an_unknown_id(parts: Parts, caller: Caller) -> None:
    for look, name in itertools.product(LOOKS, ODD_NAMES):
        with pytest.raises(NotFound):
            look(parts, caller, name)


def test_an_odd_name_in_another_place_finds_nothing(parts: Parts, caller: Caller) -> None:
    for name in ODD_NAMES:
        assert list_files(parts, caller, purpose=name).data == []
        assert list_jobs(parts, caller, batch_id=name).data == []
        for look in (list_files, list_batches, list_jobs):
            with pytest.raises(NotFound):
                look(parts, caller, after=name)
        with pytest.raises(BadRequest):
            upload_file(parts, caller, [b"x"], "x", name)
    for name in ("a\0b", "'; --", "\u202e"):
        with pytest.raises(NotFound):
            submit_batch(parts, caller, CreateBatch(input_file_id=name))


def test_odd_words_in_a_manifest_go_through_unharmed(parts: Parts, caller: Caller) -> None:
    words = ["a\0b", "\u202e", "\uffff", "😀", "a\u2028b", "'; DROP TABLE jobs; --"]
    lines = [{"id": f"{i}{word.replace(chr(0), '')}", "prompt": word} for i, word in enumerate(words)]
    batch_id = accept(parts, manifest(*lines))

    prompts = [orjson.loads(job.body or b"")["messages"][0]["content"] for job in work(parts)]
    export_results(parts, batch_id)

    assert prompts == words
    assert [job.custom_id for job in rows(parts, batch_id)] == [line["id"] for line in lines]
    assert get_batch(parts, caller, batch_id).status == "completed"


def test_an_odd_idempotency_key_is_refused(parts: Parts, caller: Caller) -> None:
    for key in ("a\0b", "\udcff", "x" * 256, ""):
        with pytest.raises(BadRequest):
            submit_job(parts, caller, b'{"prompt": "Hi"}', idempotency_key=key)
        with pytest.raises(BadRequest):
            submit_batch(parts, caller, CreateBatch(input_file_id="file-1"), idempotency_key=key)
