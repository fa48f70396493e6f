"""What a run remembers on disk, so that the same command finds the same batch."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

RECORD = "run.json"


@dataclass(frozen=True)
class Record:
    """How far a run has come. number: counts the times that it was asked to start from the beginning.

    has_ended: the batch will not move again. revision: of a model from the hub, as it was seen at the end.
    """

    folder: Path
    number: int = 1
    file_id: str | None = None
    batch_id: str | None = None
    has_ended: bool = False
    revision: str | None = None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The record of a run's folder; a fresh one where there is none that can be read."""
        try:
            saved = json.loads((folder / RECORD).read_text())
            return cls(folder, **saved)
        except (OSError, ValueError, TypeError):
            return cls(folder)

    def updated(self, **changes: Any) -> Self:
        """The record with changes, already on disk."""
        record = replace(self, **changes)
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = {name: value for name, value in asdict(record).items() if name != "folder"}
        scratch = self.folder / f"{RECORD}.new"
        scratch.write_text(json.dumps(saved))
        scratch.replace(self.folder / RECORD)
        return record

    def anew(self) -> Self:
        """The record of starting from the beginning."""
        return self.updated(
            number=self.number + 1, file_id=None, batch_id=None, has_ended=False, revision=None
        )
