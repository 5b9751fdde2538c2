"""The schema of a job's record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

AHEAD = timedelta(days=1)  # how far the clocks of two machines may differ


def _time(text: str) -> str:
    if datetime.fromisoformat(text).replace(tzinfo=UTC) > datetime.now(UTC) + AHEAD:
        raise ValueError("it lies in the future")
    return text


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Record(BaseModel):
    """What a job took, and where; other keys are let be."""

    node: str
    job_id: str | None = None
    device: str
    started_utc: Annotated[str, AfterValidator(_time)]
    wall_s: Amount
    cpu_s: Amount
    peak_memory_mib: Amount
    peak_gpu_memory_mib: Amount | None = None
