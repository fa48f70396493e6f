"""/v1/files: uploads stream to disk, downloads stream from it."""

from typing import BinaryIO, Literal, Self, cast

import werkzeug.datastructures
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.file import FileStorage
from pydantic import BaseModel, Field, field_validator, model_validator

from service.actions.read_files import delete_file, get_file, list_files, open_file
from service.actions.upload_file import upload_file
from service.api.context import current_caller, current_parts, current_request
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.channels.blobs import chunks_of
from service.contract.files import DeletedFile, ExpirySeconds, FileList, FileObject
from service.contract.plain_errors import Refused
from service.errors import BadRequest

api = APIBlueprint("files", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class UploadForm(Described):
    """A multipart upload. expires_after: both of its fields, or neither."""

    file: FileStorage
    purpose: str = Field(max_length=64)
    expires_anchor: Literal["created_at"] | None = Field(default=None, alias="expires_after[anchor]")
    expires_seconds: ExpirySeconds | None = Field(default=None, alias="expires_after[seconds]")

    @field_validator("file")
    @classmethod
    def _is_a_file(cls, file: object) -> object:
        if not isinstance(file, werkzeug.datastructures.FileStorage):
            raise Refused("`file` must be a file part, with a filename.")
        return file

    @model_validator(mode="after")
    def _expires_in_whole(self) -> Self:
        if (self.expires_anchor is None) != (self.expires_seconds is None):
            missing = "anchor" if self.expires_anchor is None else "seconds"
            raise Refused(f"`expires_after` needs its {missing} too.", param=f"expires_after[{missing}]")
        return self


class FilePath(BaseModel):
    """file_id: `file-…`."""

    file_id: str


class FilesQuery(Described):
    """A page of files, newest first. after: the last id of the page before."""

    after: str | None = None
    limit: int = Field(default=10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


@api.post("/files", responses={200: FileObject})
def create_file(header: IdempotencyHeader, form: UploadForm) -> FileObject:
    """Upload a manifest or media. OpenAI: POST /v1/files."""
    if len(current_request().files.getlist("file")) > 1:
        raise BadRequest("Send one file at a time.", param="file")
    return upload_file(
        current_parts(),
        current_caller(),
        chunks_of(cast("BinaryIO", form.file.stream)),
        form.file.filename or "",
        form.purpose,
        expires_in_seconds=form.expires_seconds,
        idempotency_key=header.idempotency_key,
    )


@api.get("/files", responses={200: FileList})
def list_(query: FilesQuery) -> FileList:
    """A page of files. OpenAI: GET /v1/files."""
    return list_files(current_parts(), current_caller(), **dict(query))


@api.get("/files/<file_id>", responses={200: FileObject})
def get(path: FilePath) -> FileObject:
    """One file. OpenAI: GET /v1/files/{file_id}."""
    return get_file(current_parts(), current_caller(), path.file_id)


@api.delete("/files/<file_id>", responses={200: DeletedFile})
def delete(path: FilePath) -> DeletedFile:
    """Delete a file. OpenAI: DELETE /v1/files/{file_id}."""
    return delete_file(current_parts(), current_caller(), path.file_id)


@api.get(
    "/files/<file_id>/content",
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
def content(path: FilePath) -> Response:
    """The bytes of a file. OpenAI: GET /v1/files/{file_id}/content."""
    opened = open_file(current_parts(), current_caller(), path.file_id)
    response = Response(chunks_of(opened.stream), content_type="application/octet-stream")
    response.call_on_close(opened.stream.close)
    response.content_length = opened.file.bytes
    # Always an attachment: what strangers uploaded must not run as a page of ours.
    response.headers.set("Content-Disposition", "attachment", filename=opened.file.filename)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
