"""Recordings as text, with OpenAI's own client."""

import io
import math
import struct
import wave
from typing import Any

import httpx
import openai
from wire_server import Wire

RATE = 16_000


def rising_tone(seconds: float = 1.0) -> tuple[str, bytes]:
    """A file as a client sends it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, RATE, 0, "NONE", "none"))
        for n in range(int(RATE * seconds)):
            time = n / RATE
            sound.writeframesraw(
                struct.pack("<h", int(12_000 * math.sin(2 * math.pi * (300 + 300 * time) * time)))
            )
    return "tone.wav", file.getvalue()


def refused(client: httpx.Client, **fields: Any) -> tuple[int, str | None]:
    answer = client.post(
        "/v1/audio/transcriptions", data={"model": "default", **fields}, files={"file": rising_tone()}
    )
    return answer.status_code, answer.json()["error"]["param"]


def kept_in(wire: Wire) -> set[str]:
    """What lies on the server's disk."""
    return {path.name for path in (wire.data_dir / "blobs" / "files").glob("*")}


def test_a_recording_is_written_down(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(model="default", file=rising_tone(), language="en")

    assert heard.text
    assert heard.usage is not None
    assert heard.usage.type == "tokens"
    assert heard.usage.output_tokens > 0
    split = heard.usage.input_token_details
    assert split is not None
    assert split.audio_tokens
    assert split.text_tokens
    assert split.audio_tokens + split.text_tokens == heard.usage.input_tokens


def test_it_comes_as_bare_text_where_that_is_wanted(client: openai.OpenAI) -> None:
    whole = client.audio.transcriptions.create(model="default", file=rising_tone())
    text = client.audio.transcriptions.create(model="default", file=rising_tone(), response_format="text")

    assert text == whole.text + "\n"


def test_a_stream_tells_the_same_words_as_they_come(client: openai.OpenAI) -> None:
    whole = client.audio.transcriptions.create(model="default", file=rising_tone())
    with client.audio.transcriptions.create(model="default", file=rising_tone(), stream=True) as stream:
        events = list(stream)

    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == whole.text
    assert events[-1].usage is not None
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas).strip() == whole.text


def test_a_prompt_that_looks_like_json_is_text(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(model="default", file=rising_tone(), prompt="[1, 2]")

    assert heard.usage is not None


def test_the_sound_is_forgotten_once_it_is_written_down(client: openai.OpenAI, wire: Wire) -> None:
    before = kept_in(wire)
    client.audio.transcriptions.create(model="default", file=rising_tone())
    with client.audio.transcriptions.create(model="default", file=rising_tone(), stream=True) as stream:
        next(iter(stream))
        assert len(kept_in(wire)) == len(before) + 1
        list(stream)

    assert kept_in(wire) == before


def test_what_no_model_here_can_tell_is_refused(cats: httpx.Client) -> None:
    for name in ("verbose_json", "srt", "vtt", "diarized_json", "poem"):
        assert refused(cats, response_format=name) == (400, "response_format"), name
    assert refused(cats, **{"timestamp_granularities[]": "word"}) == (400, "timestamp_granularities[]")
    assert refused(cats, **{"include[]": "logprobs"}) == (400, "include[]")
    assert refused(cats, language="English") == (400, "language")
    assert refused(cats, temperature="3") == (400, "temperature")
    assert refused(cats, model="nobody") == (404, "model")


def test_what_is_no_recording_is_refused_by_its_field(cats: httpx.Client, wire: Wire) -> None:
    before = kept_in(wire)
    path = "/v1/audio/transcriptions"
    broken = cats.post(path, data={"model": "default"}, files={"file": ("a.wav", b"RIFF but no sound")})
    bare = cats.post(path, data={"model": "default", "file": "a.wav"})
    streamed = cats.post(path, data={"stream": "true"}, files={"file": ("a.wav", b"RIFF but no sound")})
    too_long = cats.post(path, files={"file": rising_tone(seconds=31)})

    for answer in (broken, bare, streamed, too_long):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file"), answer.text
    assert kept_in(wire) == before
