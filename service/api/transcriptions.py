"""/v1/audio/transcriptions: a sound as text, through a chat model that hears."""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Annotated, BinaryIO, Literal, cast

import werkzeug.datastructures
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.file import FileStorage
from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from service.actions.follow_chat import ChatEvent, Replied
from service.actions.start_transcription import forget_sound, keep_sound, start_transcription
from service.api.context import current_caller, current_parts
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import ChatHeaders, name_ignored
from service.api.listening import first_word, listen, reply_in, told
from service.api.paths import current_path_model
from service.api.sse import data, event_stream
from service.channels.blobs import chunks_of
from service.contract.chat import ignored_fields
from service.contract.plain_errors import Refused
from service.contract.streams import Delta
from service.contract.transcriptions import (
    OTHER_FORMATS,
    Language,
    Prompt,
    Temperature,
    Transcription,
    TranscriptionRequest,
    transcription_of,
)

api = APIBlueprint("transcriptions", __name__, url_prefix="/v1", abp_responses=REFUSALS)

# What needs times or probabilities for each word, which a chat model does not give.
UNSUPPORTED = ("timestamp_granularities", "include", "known_speaker_names", "known_speaker_references")


def _as_sent(value: object) -> object:
    """The framework reads form fields as JSON where it can, and a text may look like it."""
    return value if value is None or isinstance(value, str) else str(value)


class TranscriptionForm(Described):
    """A multipart request. language: ISO 639-1. prompt: what the text may be about, and how it is spelt."""

    model_config = ConfigDict(extra="allow")

    file: FileStorage
    model: Annotated[str, BeforeValidator(_as_sent), Field(min_length=1, max_length=512)] = "default"
    language: Language | None = None
    prompt: Annotated[Prompt | None, BeforeValidator(_as_sent)] = None
    response_format: Literal["json", "text"] = "json"
    temperature: Temperature | None = None
    stream: bool | None = None

    @field_validator("file")
    @classmethod
    def _is_a_file(cls, file: object) -> object:
        if not isinstance(file, werkzeug.datastructures.FileStorage):
            raise Refused("`file` must be a file part, with a filename.")
        return file

    @field_validator("response_format", mode="before")
    @classmethod
    def _is_one_that_we_can_fill(cls, name: object) -> object:
        if name in OTHER_FORMATS:
            sentence = f"`response_format` {name} needs times, which no model here tells: use json or text."
            raise Refused(sentence, code="unsupported_parameter")
        return name

    @model_validator(mode="after")
    def _is_obeyed_in_full(self) -> "TranscriptionForm":
        for name in self.model_extra or {}:
            if name.removesuffix("[]") in UNSUPPORTED:
                sentence = f"`{name}` is not supported. Leave it out."
                raise Refused(sentence, param=name, code="unsupported_parameter")
        return self


@api.post("/audio/transcriptions", responses={200: Transcription})
def create_transcription(header: ChatHeaders, form: TranscriptionForm) -> Response:
    """Write down what is said in a recording. OpenAI: POST /v1/audio/transcriptions."""
    events = _heard(form, wait_for_model=header.wait_for_model)
    if form.stream:
        response = event_stream(told(first_word(events), events, _said))
    else:
        with closing(events):
            response = _whole(transcription_of(reply_in(events)), form.response_format)
    name_ignored(response, ignored_fields(form))
    return response


def _heard(form: TranscriptionForm, *, wait_for_model: bool) -> Generator[ChatEvent, None, None]:
    """The events of the job; the sound is kept until they end."""
    parts, caller = current_parts(), current_caller()
    sound = keep_sound(parts, caller, chunks_of(cast("BinaryIO", form.file.stream)), form.file.filename or "")
    try:
        wanted = TranscriptionRequest(
            model=form.model,
            file=sound,
            language=form.language,
            prompt=request.form.get("prompt"),
            temperature=form.temperature,
        )
        job_id = start_transcription(
            parts,
            caller,
            wanted,
            streams=bool(form.stream),
            wait_for_model=wait_for_model,
            path_model=current_path_model(),
        )
        yield from listen(parts, caller, job_id, with_deltas=bool(form.stream))
    finally:
        forget_sound(parts, caller, sound)


def _whole(transcription: Transcription, response_format: str) -> Response:
    if response_format == "text":
        return Response(transcription.text + "\n", content_type="text/plain; charset=utf-8")
    return Response(transcription.model_dump_json(), content_type="application/json")


def _said(event: Delta | Replied) -> Iterator[bytes]:
    if isinstance(event, Delta):
        yield data({"type": "transcript.text.delta", "delta": event.text})
        return
    for delta in event.rest:
        yield from _said(delta)
    whole = transcription_of(event.body)
    yield data({"type": "transcript.text.done", **whole.model_dump()})
