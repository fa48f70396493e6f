"""The whole service with the bundled model, in full precision: what a request may wish, and what comes of it."""

from collections.abc import Iterator

import pytest
import torch
from live_service import service, wait_for
from openai import OpenAI
from served_model import Served
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from service.actions.readiness import ready_models
from service.settings import BUNDLED_MODEL
from workers.device import Device


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    torch.set_num_threads(1)
    # No Celery worker hears the doorbell here, so the device looks for work often.
    options = {"quant_bits": None, "poll_seconds": 0.02, "num_preparers": 0}
    # Who asks the same again wants to see it computed again.
    options["answer_cache_seconds"] = 0
    with service(tmp_path_factory.mktemp("served"), **options) as (parts, url, _):
        device = Device(parts)
        device.start()
        wait_for(lambda: bool(ready_models(parts)), seconds=60)
        yield Served(url, parts)
        device.stop()


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key="EMPTY", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BUNDLED_MODEL)
