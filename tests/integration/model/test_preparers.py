"""Preparers: other processes give what the prompter here gives, and one that dies takes its request alone with it."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from service.errors import BadRequest, ModelFailed
from service.settings import Settings
from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.model.loading import LoadOptions
from workers.model.prompting import packets, prepare_pool
from workers.model.prompting.prepare_pool import PreparerPool
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.prompter_source import PrompterSource
from workers.model.prompting.prompts import Prompter

OPTIONS = LoadOptions.from_settings(Settings(quant_bits=None))
PIXELS = np.random.default_rng(0).integers(0, 255, (96, 64, 3), dtype=np.uint8)
MEDIA: dict[str, Decoded] = {
    "image": DecodedImage(PIXELS, (64, 96)),
    "video": DecodedVideo(np.stack([PIXELS] * 4), (0, 5, 10, 15), 10.0, 16, 1.6),
    "audio": DecodedAudio(np.sin(np.arange(16_000) / 20).astype(np.float32), 16_000, 1.0),
}


def conversation(*kinds: str) -> list[dict[str, object]]:
    parts: list[dict[str, str]] = [{"type": kind} for kind in kinds]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is this?"}]}]


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return PrompterSource.of(OPTIONS).open()


@pytest.fixture(scope="module")
def pool() -> Iterator[PreparerPool]:
    pool = PreparerPool(PrompterSource.of(OPTIONS), 1)
    pool.start()
    yield pool
    pool.close()


@pytest.mark.parametrize("kinds", [(), ("image",), ("video",), ("audio",), ("image", "image", "audio")])
def test_another_process_prepares_what_the_prompter_here_prepares(
    pool: PreparerPool, prompter: Prompter, kinds: tuple[str, ...]
) -> None:
    messages, media = conversation(*kinds), [MEDIA[kind] for kind in kinds]

    there = pool.prepare(messages, media, scope="a tenant")
    here = prompter.prepare(messages, media, scope="a tenant")

    assert there.inputs.keys() == here.inputs.keys()
    for name, tensor in here.inputs.items():
        assert there.inputs[name].dtype == tensor.dtype
        assert torch.equal(there.inputs[name], tensor), name
    assert there.counts == here.counts
    assert there.content is not None
    assert here.content is not None
    assert there.content.shared_tokens(here.content) == here.num_tokens


def test_a_refusal_keeps_its_sentence_and_its_place(pool: PreparerPool, prompter: Prompter) -> None:
    with pytest.raises(BadRequest) as here:
        prompter.prepare([], [])
    with pytest.raises(Exception, match=r"The conversation is empty\.") as there:
        pool.prepare([], [])

    assert there.value.as_dict() == here.value.as_dict()  # type: ignore[attr-defined]


def test_a_preparer_that_dies_takes_one_request_with_it_and_is_replaced(pool: PreparerPool) -> None:
    pool.prepare(conversation(), [])
    (victim,) = pool.idle_pids()
    os.kill(victim, signal.SIGSTOP)
    failures: list[BaseException] = []

    def prepare() -> None:
        try:
            pool.prepare(conversation(), [])
        except ModelFailed as error:
            failures.append(error)

    asking = threading.Thread(target=prepare)
    asking.start()
    time.sleep(0.2)
    os.kill(victim, signal.SIGKILL)
    asking.join(10)

    assert [failure.code for failure in failures] == ["preparation_failed"]  # type: ignore[attr-defined]
    assert pool.prepare(conversation(), []).num_tokens > 0
    assert victim not in pool.idle_pids()


def test_a_chat_does_not_wait_behind_bulk(pool: PreparerPool) -> None:
    pool.prepare(conversation(), [])
    (busy,) = pool.idle_pids()
    os.kill(busy, signal.SIGSTOP)
    bulk = threading.Thread(target=pool.prepare, args=(conversation(), []))
    bulk.start()
    time.sleep(0.2)

    chat = pool.prepare(conversation(), [], is_chat=True)

    assert chat.num_tokens > 0
    assert bulk.is_alive()
    os.kill(busy, signal.SIGCONT)
    bulk.join(10)
    assert not bulk.is_alive()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_a_tensor_crosses_as_it_is(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape).to(dtype)
    fd = packets.pack({"tensor": tensor, "array": PIXELS, "prepared": Prepared({"input_ids": tensor})})

    read = packets.unpack(fd)
    os.close(fd)

    assert torch.equal(read["tensor"], tensor)
    assert torch.equal(read["prepared"].inputs["input_ids"], tensor)
    assert np.array_equal(read["array"], PIXELS)
    assert read["array"].flags.writeable


def test_the_processes_begin_when_work_comes_in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_pool, "PROMPTS_BEFORE_START", 3)
    pool = PreparerPool(PrompterSource.of(OPTIONS), 1)

    assert [pool.is_ready() for _ in range(2)] == [False, False]
    time.sleep(0.1)
    assert pool.idle_pids() == []
    pool.is_ready()
    deadline = time.monotonic() + 60
    while not pool.is_ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert pool.prepare(conversation(), []).num_tokens > 0
    pool.close()


def test_a_pool_that_was_closed_starts_nothing() -> None:
    pool = PreparerPool(PrompterSource.of(OPTIONS), 1)
    pool.close()

    pool.start()

    assert pool.idle_pids() == []
    assert not pool.is_ready()
