"""What a tenant spent, by key, model and day."""

import datetime
from collections.abc import Collection

from service.actions.parts import Parts
from service.actions.read_tenants import get_tenant
from service.contract.callers import Caller
from service.contract.usage import UsageCounts, UsageGroup, UsageReport, UsageRow
from service.errors import BadRequest, PermissionDenied
from service.store import usage
from service.store.usage import Spent

DEFAULT_DAYS = 30
MAX_DAYS = 366
FIRST_DAY = datetime.date(2000, 1, 1)
COLUMNS = {UsageGroup.KEY: "key_id", UsageGroup.MODEL: "model", UsageGroup.DAY: "day"}


def read_usage(
    parts: Parts,
    caller: Caller,
    *,
    start: datetime.date | None = None,
    end: datetime.date | None = None,
    group_by: Collection[UsageGroup] = (UsageGroup.KEY, UsageGroup.DAY),
    tenant_id: str | None = None,
) -> UsageReport:
    """Usage of the caller's tenant; of any other for an admin. start, end: days (UTC), both included."""
    if tenant_id is not None and tenant_id != caller.tenant_id:
        if not caller.is_admin:
            raise PermissionDenied("Another tenant's usage is for admin keys.", param="tenant")
        get_tenant(parts, tenant_id)
    tenant_id = tenant_id or caller.tenant_id
    start, end = _days(start, end)
    groups = [group for group in UsageGroup if group in group_by]
    with parts.database.reading() as db:
        spent = usage.of(db, tenant_id, since=start, until=end, group_by=[COLUMNS[group] for group in groups])
    rows = [_row(one) for one in spent]
    return UsageReport(
        tenant_id=tenant_id, start=start, end=end, group_by=groups, data=rows, total=_sum(rows)
    )


def _days(start: datetime.date | None, end: datetime.date | None) -> tuple[datetime.date, datetime.date]:
    end = end or datetime.datetime.now(datetime.UTC).date()
    start = start or end - datetime.timedelta(DEFAULT_DAYS - 1)
    if start > end:
        raise BadRequest("`start` must not be after `end`.", param="start")
    if (end - start).days >= MAX_DAYS:
        raise BadRequest(f"At most {MAX_DAYS} days can be asked for at once.", param="start")
    return start, end


def _row(spent: Spent) -> UsageRow:
    row = UsageRow(key_id=spent.key_id, model=spent.model, day=spent.day)
    counts = {name: getattr(spent, name) for name in usage.COUNTED}
    return row.model_copy(update=counts | {"total_tokens": spent.prompt_tokens + spent.completion_tokens})


def _sum(rows: Collection[UsageRow]) -> UsageCounts:
    return UsageCounts(**{name: sum(getattr(row, name) for row in rows) for name in UsageCounts.model_fields})
