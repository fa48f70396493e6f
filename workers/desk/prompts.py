"""A job's prompt: its media loaded, its template rendered, here or in a process that does nothing else."""

from collections.abc import Sequence
from typing import Any, Protocol

from service.contract.jobs import ClaimedJob
from service.contract.lifecycle import JobClass
from service.contract.media import MediaKind, MediaNeeds, MediaRef
from service.contract.messages import Message, with_file_kinds
from service.errors import BadRequest
from workers.media.decoded import Decoded
from workers.model.prompting.prepare_pool import PreparerPool
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.prompts import Prompter


class MediaLoader(Protocol):
    """Turns a named piece of media into pixels or samples."""

    def load(self, ref: MediaRef, needs: MediaNeeds, tenant_id: str, *, is_chat: bool = False) -> Decoded:
        """Blocking; raises BadMedia or MediaUnavailable."""

    def kind_of(self, file_id: str, tenant_id: str, param: str) -> MediaKind:
        """What an uploaded file is, by its bytes. The same errors."""


class Prompts:
    """Makes prompts for one model. pool: processes that prepare; before they are there the calling thread does.

    max_parts: images, videos and sounds of one request.
    """

    def __init__(
        self, media: MediaLoader, prompter: Prompter, pool: PreparerPool | None, max_parts: int
    ) -> None:
        self._media = media
        self._prompter = prompter
        self._pool = pool
        self._max_parts = max_parts

    def with_file_kinds(self, job: ClaimedJob, messages: Sequence[Message]) -> list[Message]:
        """The messages of a request, with a kind in every uploaded file's part; reads the files that need it."""
        return with_file_kinds(
            messages, lambda file_id, param: self._media.kind_of(file_id, job.tenant_id, param)
        )

    def make(
        self, job: ClaimedJob, messages: Sequence[dict[str, Any]], refs: Sequence[MediaRef], **options: Any
    ) -> Prepared:
        """The prompt of a job's conversation; blocks. options: those of `Prompter.prepare`.

        Errors: of this job alone, with the place in its request.
        """
        if len(refs) > self._max_parts:
            raise BadRequest(
                f"The request has {len(refs)} images, videos and sounds; {self._max_parts} are allowed here.",
                param="messages",
                code="too_many_parts",
            )
        needs, is_chat = self._prompter.needs, job.job_class is JobClass.CHAT
        media = [self._media.load(ref, needs, job.tenant_id, is_chat=is_chat) for ref in refs]
        if self._pool is None or not self._pool.is_ready():
            return self._prompter.prepare(messages, media, scope=job.tenant_id, **options)
        return self._pool.prepare(messages, media, is_chat=is_chat, scope=job.tenant_id, **options)
