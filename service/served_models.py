"""Further models that one stack serves, as an operator names them in `SLUICE_MORE_MODELS`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class FurtherModel(BaseModel):
    """What differs from the first model's settings. What is not named: quant_bits is the first's, the rest is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    served_name: str | None = None
    quant_bits: int | None = None
    chat_template: Path | None = None
