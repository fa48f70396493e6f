"""Files on the wire, as the openai client expects them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

BATCH_OUTPUT = "batch_output"
# A sound while it is transcribed: no client may upload for it, and no list shows it.
TRANSCRIPTION = "transcription"
# What a client may upload a file for. Media goes under vision or user_data, manifests under batch.
PURPOSES = ("batch", "vision", "user_data", "assistants")

ExpirySeconds = Annotated[int, Field(ge=3600, le=30 * 24 * 3600)]


class ExpiresAfter(BaseModel):
    """When a file goes: so many seconds after it was made."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    anchor: Literal["created_at"]
    seconds: ExpirySeconds


class FileObject(BaseModel):
    """OpenAI: the file object. bytes: its size. created_at, expires_at: Unix seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    expires_at: int | None = None
    status_details: None = None


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class DeletedFile(BaseModel):
    """What deleting a file answers."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True
