"""Opens an uploaded file that a request names by its id."""

from typing import BinaryIO

from service.actions.parts import Parts
from service.contract.ids import is_file_id
from service.errors import MediaUnavailable
from service.store import files


def open_upload(parts: Parts, tenant_id: str, file_id: str) -> BinaryIO:
    """The bytes of a tenant's file. Another tenant's file looks like one that does not exist."""
    row = None
    if is_file_id(file_id):
        with parts.database.reading() as db:
            row = files.get(db, tenant_id, file_id)
    if row is None:
        raise MediaUnavailable(
            f"There is no file {file_id!r}.", code="file_not_found", hint="Upload it first."
        )
    return parts.blobs.open(row.blob)
