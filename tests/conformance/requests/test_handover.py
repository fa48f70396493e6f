"""A stream whose worker is stopped is finished by another, and no word is told twice."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from live_service import service, wait_for
from openai import OpenAI
from sqlalchemy import select

from service.actions.parts import Parts, assemble
from service.actions.readiness import ready_models
from service.contract.lifecycle import JobState
from service.store.tables import Job
from workers.device import Device
from workers.engine.protocol import Pending, RowResult
from workers.model.slot_model import TorchSlotModel

OPTIONS = {"quant_bits": None, "poll_seconds": 0.02, "num_preparers": 0, "drain_seconds": 0.0}
LONG: dict[str, Any] = {
    "model": "default",
    "messages": [{"role": "user", "content": "Hello"}],
    "n": 2,
    "temperature": 1,
    "seed": 3,
    "max_tokens": 400,
    "extra_body": {"ignore_eos": True},
}


@contextmanager
def device(parts: Parts) -> Iterator[Device]:
    """A worker of its own, with its own connections, as another process would have them."""
    its_parts = assemble(parts.settings)
    device = Device(its_parts)
    device.start()
    wait_for(lambda: bool(ready_models(parts)), seconds=60)
    yield device
    device.stop()
    its_parts.close()


@pytest.fixture
def _no_faster_than_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model would be done before anybody could stop its worker."""
    collect = TorchSlotModel.collect

    def slowly(self: TorchSlotModel, pending: Pending) -> Sequence[RowResult]:
        time.sleep(0.01)
        return collect(self, pending)

    monkeypatch.setattr(TorchSlotModel, "collect", slowly)


def state_of_the_job(parts: Parts) -> JobState | None:
    with parts.database.reading() as db:
        return db.scalar(select(Job.state))


@pytest.mark.usefixtures("_no_faster_than_a_large_model")
def test_a_stream_goes_on_with_another_worker_where_the_first_was_stopped(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    with service(tmp_path, **OPTIONS) as (parts, url, _), ExitStack() as workers:
        first = workers.enter_context(ExitStack())
        first.enter_context(device(parts))
        with OpenAI(base_url=f"{url}/v1", api_key="EMPTY", max_retries=0, timeout=60) as client:
            chunks = iter(client.chat.completions.create(**LONG, stream=True))
            before = [next(chunks) for _ in range(6)]
            first.close()
            assert state_of_the_job(parts) is JobState.QUEUED
            workers.enter_context(device(parts))
            after = list(chunks)
            whole = client.chat.completions.create(**LONG)

    texts = {0: "", 1: ""}
    for chunk in before + after:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    # It was told as it was written again, not kept for the end.
    assert sum(bool(choice.delta.content) for chunk in after for choice in chunk.choices) > 4
