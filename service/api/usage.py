"""GET /v1/usage: who spent how many tokens."""

import datetime

from flask_openapi3.blueprint import APIBlueprint
from pydantic import Field

from service.actions.read_usage import FIRST_DAY, read_usage
from service.api.context import current_caller, current_parts
from service.api.described import Described
from service.api.errors import REFUSALS
from service.contract.usage import UsageGroup, UsageReport

api = APIBlueprint("usage", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class UsageQuery(Described):
    """start, end: days (UTC), both included; the last 30 by default. tenant: another one's, for admin keys."""

    start: datetime.date | None = Field(default=None, ge=FIRST_DAY)
    end: datetime.date | None = Field(default=None, ge=FIRST_DAY)
    group_by: list[UsageGroup] = Field(default=[UsageGroup.KEY, UsageGroup.DAY], max_length=3)
    tenant: str | None = None


@api.get("/usage", responses={200: UsageReport})
def usage(query: UsageQuery) -> UsageReport:
    """Answered requests and their tokens; `group_by` may be repeated."""
    return read_usage(
        current_parts(),
        current_caller(),
        start=query.start,
        end=query.end,
        group_by=query.group_by,
        tenant_id=query.tenant,
    )
