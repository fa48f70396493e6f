"""How far a reader of a batch's results has come. Words like `3.120,17.98,x.40` to whoever keeps them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.errors import BadRequest

MAX_CURSOR_CHARACTERS = 2000
_PLACE = re.compile(r"(?:([0-9]{1,3})|(x))\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class ResultCursor:
    """The last result seen of each shard, which is in the order of commits; `seqs` may lack shards not yet seen.

    last_line: the last line seen of those that have no result, once the batch was over.
    """

    seqs: Mapping[int, int] = field(default_factory=dict)
    last_line: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "ResultCursor":
        """Read what `str` gave; nothing is the start. BadRequest for anything else."""
        seqs: dict[int, int] = {}
        last_line = 0
        for place in (text or "").split(",") if text else ():
            match = _PLACE.fullmatch(place)
            if match is None or len(text or "") > MAX_CURSOR_CHARACTERS:
                raise BadRequest("The cursor is not one that we gave out.", param="cursor")
            if match[2]:
                last_line = int(match[3])
            else:
                seqs[int(match[1])] = int(match[3])
        return cls(seqs, last_line)

    def __str__(self) -> str:
        places = [f"{shard}.{seq}" for shard, seq in sorted(self.seqs.items())]
        return ",".join([*places, f"x.{self.last_line}"] if self.last_line else places)

    def at(self, shard: int, seq: int) -> "ResultCursor":
        """After one more result."""
        return replace(self, seqs={**self.seqs, shard: seq})

    def at_line(self, line_no: int) -> "ResultCursor":
        """After one more line without a result."""
        return replace(self, last_line=line_no)
