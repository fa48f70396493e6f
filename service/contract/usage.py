"""Usage on the wire: who spent how many tokens. Ours; OpenAI's paths for this are elsewhere."""

import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel


class UsageGroup(StrEnum):
    """What usage can be told by."""

    KEY = "key"
    MODEL = "model"
    DAY = "day"


class UsageCounts(BaseModel):
    """Answered requests and their tokens; image, video and audio tokens are among the prompt's.

    An answer that was computed before and given again is a request that costs no tokens.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    image_tokens: int = 0
    video_tokens: int = 0
    audio_tokens: int = 0


class UsageRow(UsageCounts):
    """One group. Null where usage is not told by this; key_id is null too where no key was used. day: UTC."""

    object: Literal["usage"] = "usage"
    key_id: str | None = None
    model: str | None = None
    day: datetime.date | None = None


class UsageReport(BaseModel):
    """A tenant's usage, oldest day first. start, end: the days (UTC) that it covers, both included."""

    object: Literal["list"] = "list"
    tenant_id: str
    start: datetime.date
    end: datetime.date
    group_by: list[UsageGroup]
    data: list[UsageRow]
    total: UsageCounts
