"""What the desk answers about tokens, beside its engine and without it."""

import io
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.read_preflights import get_preflight
from service.actions.start_transcription import keep_sound
from service.actions.submit_preflight import submit_lines
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.endpoints import CHAT, DETOKENIZE, TOKENIZE, TRANSCRIBE
from service.contract.lifecycle import JobState
from service.store import jobs
from service.store.jobs import JobView, NewJob
from workers.device import Device

Eventually = Callable[[Callable[[], bool]], None]
ME = Caller()
HELLO = {"role": "user", "content": "Hello"}
LASTING = {"messages": [HELLO], "max_tokens": 3000, "min_tokens": 3000, "ignore_eos": True}


def queued(parts: Parts, endpoint: str, body: dict[str, Any]) -> int:
    new = NewJob(ME.tenant_id, "tiny-gemma4", orjson.dumps(body), endpoint=endpoint)
    with parts.database.transaction() as db:
        return jobs.insert_chat(db, new)


def seen(parts: Parts, job_id: int) -> JobView:
    with parts.database.reading() as db:
        view = jobs.get(db, ME.tenant_id, job_id)
    assert view is not None
    return view


def answered(parts: Parts, eventually: Eventually, endpoint: str, body: dict[str, Any]) -> JobView:
    job_id = queued(parts, endpoint, body)
    eventually(lambda: seen(parts, job_id).state.is_terminal)
    return seen(parts, job_id)


def silence(seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", "none"))
        sound.writeframes(bytes(2 * int(16_000 * seconds)))
    return file.getvalue()


def test_tokens_are_counted_while_every_slot_is_taken(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    taking = [queued(parts, CHAT, LASTING) for _ in range(parts.settings.max_slots)]
    device.start()
    eventually(lambda: all(seen(parts, job_id).state is JobState.RUNNING for job_id in taking))

    told = answered(parts, eventually, TOKENIZE, {"prompt": "Hello there", "add_special_tokens": False})
    assert told.result is not None
    back = answered(parts, eventually, DETOKENIZE, {"tokens": told.result["tokens"]})

    assert back.result == {"prompt": "Hello there"}
    assert (told.usage.total_tokens, told.result["max_model_len"]) == (0, 4096)
    assert {seen(parts, job_id).state for job_id in taking} == {JobState.RUNNING}


def test_a_token_beyond_the_vocabulary_is_refused_by_its_place(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    device.start()
    refused = answered(parts, eventually, DETOKENIZE, {"tokens": [5, 10**8]})

    assert refused.result is not None
    assert (refused.result["status"], refused.result["param"]) == (400, "tokens[1]")


def test_a_sound_is_written_down_and_a_broken_one_refused(
    parts: Parts, device: Device, eventually: Eventually
) -> None:
    device.start()
    good = keep_sound(parts, ME, [silence()], "a.wav")
    bad = keep_sound(parts, ME, [b"nothing of a sound"], "b.wav")

    heard = answered(parts, eventually, TRANSCRIBE, {"model": "default", "file": good, "language": "en"})
    broken = answered(parts, eventually, TRANSCRIBE, {"model": "default", "file": bad})

    assert heard.state is JobState.SUCCEEDED
    assert heard.usage.audio_tokens > 0
    assert broken.result is not None
    assert (broken.result["param"], broken.result["code"]) == ("file", "media_unrecognized")


def test_a_preflight_measures_pictures_and_finds_what_no_scan_can(
    parts: Parts, device: Device, eventually: Eventually, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "red.png").read_bytes()[:60])
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strange"}}}
    lines = [
        {"image": str(tmp_path / "red.png"), "prompt": "What is this?", "max_tokens": 9},
        {"image": str(tmp_path / "broken.png"), "prompt": "What is this?"},
        {"prompt": "Hello", "response_format": schema},
        {"prompt": "word " * 9000},
    ]
    manifest = (orjson.dumps(line) + b"\n" for line in lines)
    preflight_id = submit_lines(parts, ME, manifest, BatchOptions(), 256).id
    ingest_manifest(parts, preflight_id)
    device.start()

    eventually(lambda: get_preflight(parts, ME, preflight_id).sample.measured == 4)
    export_results(parts, preflight_id)

    told = get_preflight(parts, ME, preflight_id)
    assert told.tokens is not None
    assert (told.tokens.prompt.image, told.tokens.answer.upper_bound) == (64, 9)
    assert [(failed.line, failed.error["param"]) for failed in told.failed_lines] == [
        (2, "messages[0].content[0].image_url"),
        (3, "response_format"),
        (4, "messages"),
    ]
