"""Rows as the objects that clients know."""

from typing import TypeVar

from service.contract.admin import KeyList, TenantList
from service.contract.batches import (
    BatchError,
    BatchErrors,
    BatchList,
    BatchObject,
    BatchUsage,
    CachedTokens,
    RequestCounts,
)
from service.contract.files import FileList, FileObject
from service.contract.job_objects import JobList, JobObject, wire_id
from service.contract.lifecycle import JobState
from service.contract.replies import usage_body
from service.contract.webhooks import WebhookList
from service.store.jobs import JobView
from service.store.progress import Counts
from service.store.tables import Batch, File

Page = TypeVar("Page", FileList, BatchList, JobList, WebhookList, KeyList, TenantList)


def file_object(row: File) -> FileObject:
    """OpenAI's file object."""
    return FileObject(
        id=row.id,
        bytes=row.num_bytes,
        created_at=int(row.created_at),
        filename=row.filename,
        purpose=row.purpose,
        expires_at=whole_seconds(row.expires_at),
    )


def batch_object(row: Batch, counts: Counts) -> BatchObject:
    """OpenAI's batch object."""
    return BatchObject(
        id=row.id,
        endpoint=row.endpoint,
        model=row.model,
        errors=BatchErrors(data=[BatchError(**error) for error in row.errors]) if row.errors else None,
        input_file_id=row.input_file_id or "",
        completion_window=row.completion_window,
        status=row.state.value,
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=int(row.created_at),
        in_progress_at=whole_seconds(row.in_progress_at),
        expires_at=whole_seconds(row.expires_at),
        finalizing_at=whole_seconds(row.finalizing_at),
        completed_at=whole_seconds(row.completed_at),
        failed_at=whole_seconds(row.failed_at),
        expired_at=whole_seconds(row.expired_at),
        cancelling_at=whole_seconds(row.cancelling_at),
        cancelled_at=whole_seconds(row.cancelled_at),
        request_counts=_request_counts(row, counts),
        usage=_usage(counts),
        metadata=row.user_metadata,
        priority=row.priority,
        paused_at=whole_seconds(row.paused_at),
        token_budget=row.token_budget,
        dedupe=row.dedupe,
        retry_of=row.retry_of,
    )


def job_object(view: JobView) -> JobObject:
    """Our own job object: what came of it is a response or an error."""
    succeeded = view.state is JobState.SUCCEEDED
    return JobObject(
        id=wire_id(view.id),
        status=view.state.value,
        model=view.model,
        batch_id=view.batch_id,
        custom_id=view.custom_id,
        line=view.line_no,
        attempts=view.attempt,
        created_at=int(view.created_at),
        finished_at=whole_seconds(view.finished_at),
        response=view.result if succeeded else None,
        error=None if succeeded else view.result,
        usage=usage_body(view.usage) if succeeded else None,
        provenance=view.provenance,
    )


def filled(page: Page, has_more: bool) -> Page:
    """A page whose ends and continuation are set from its data."""
    page.has_more = has_more
    if page.data:
        page.first_id, page.last_id = page.data[0].id, page.data[-1].id
    return page


def _request_counts(row: Batch, counts: Counts) -> RequestCounts:
    return RequestCounts(
        total=row.total,
        completed=counts.succeeded,
        failed=counts.failed + counts.dead,
        dead=counts.dead,
        cancelled=counts.cancelled,
        expired=counts.expired,
    )


def _usage(counts: Counts) -> BatchUsage:
    return BatchUsage(
        input_tokens=counts.prompt_tokens,
        input_tokens_details=CachedTokens(cached_tokens=counts.cached_tokens),
        output_tokens=counts.completion_tokens,
        total_tokens=counts.prompt_tokens + counts.completion_tokens,
    )


def whole_seconds(seconds: float | None) -> int | None:
    """A moment as clients expect it: Unix seconds without a fraction."""
    return None if seconds is None else int(seconds)
