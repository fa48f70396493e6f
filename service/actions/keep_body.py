"""Where a single request's body is kept."""

from uuid import uuid4

from service.actions.parts import Parts
from service.contract.jobs import PayloadRef


def keep_body(parts: Parts, body: bytes) -> tuple[bytes | None, PayloadRef | None]:
    """The body itself, or, if it is long (media inside the request), where it now lies beside the database."""
    if len(body) <= parts.settings.inline_body_bytes:
        return body, None
    key = f"bodies/{uuid4().hex}"
    length = parts.blobs.write(key, [body])
    return None, PayloadRef(key, 0, length)
