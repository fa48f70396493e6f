"""A manifest counted line by line, in memory that does not grow with it, and a fair sample of its lines."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from service.contract.file_kinds import kind_of_name
from service.contract.manifest import ManifestLine
from service.errors import SluiceError

# Of each kind of error, the lines that are named; the rest is counted.
NAMED_LINES = 10
# A line without one of these has no media: most lines of text need not be read twice.
_MEDIA_MARKS = (b"_url", b"input_audio", b"file")
_KINDS = {"image_url": "image", "video_url": "video", "audio_url": "audio", "input_audio": "audio"}


class SampledLine(NamedTuple):
    """A line that is to be measured. offset, length: where it lies in the manifest."""

    line_no: int
    custom_id: str | None
    model: str
    offset: int
    length: int


class ManifestTally:
    """Counts lines. Each valid line has the same chance to be in the sample, however many come after it.

    num_sampled: lines to sample. seed: the same manifest counted again with it gives the same sample.
    """

    def __init__(self, num_sampled: int, seed: str) -> None:
        self._num_sampled = num_sampled
        self._random = random.Random(seed)
        self._models: Counter[str] = Counter()
        self._media: Counter[str] = Counter(image=0, video=0, audio=0, unknown=0)
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, SluiceError] = {}
        self._error_lines: defaultdict[str, list[int]] = defaultdict(list)
        self._sample: list[SampledLine] = []
        self._num_valid = 0

    @property
    def num_lines(self) -> int:
        """Lines that were counted."""
        return self._num_valid + self._errors.total()

    @property
    def sample(self) -> list[SampledLine]:
        """The lines to measure, as they stand in the manifest."""
        return sorted(self._sample)

    def take(self, line: ManifestLine, model: str, offset: int, length: int) -> None:
        """Count a line that would become a job. model: as it stands in the catalogue."""
        self._models[model] += 1
        if any(mark in line.body for mark in _MEDIA_MARKS):
            self._count_media(orjson.loads(line.body))
        place = self._place()
        self._num_valid += 1
        if place is not None:
            sampled = SampledLine(line.line_no, line.custom_id, model, offset, length)
            self._sample[place : place + 1] = [sampled]

    def refuse(self, line_no: int, error: SluiceError) -> None:
        """Count a line that would fail before it becomes a job."""
        code = error.code or "invalid"
        self._errors[code] += 1
        self._examples.setdefault(code, error)
        if len(self._error_lines[code]) < NAMED_LINES:
            self._error_lines[code].append(line_no)

    def as_dict(self) -> dict[str, Any]:
        """What was counted, as JSON keeps it."""
        return {
            "total": self.num_lines,
            "valid": self._num_valid,
            "models": dict(self._models),
            "media": dict(self._media),
            "errors": [
                {
                    "code": code,
                    "count": count,
                    "message": self._examples[code].message,
                    "lines": self._error_lines[code],
                }
                for code, count in self._errors.most_common()
            ],
        }

    def _place(self) -> int | None:
        """Where in the sample the next valid line goes; None if it is not drawn."""
        if self._num_valid < self._num_sampled:
            return self._num_valid
        drawn = int(self._random.random() * (self._num_valid + 1))
        return drawn if drawn < self._num_sampled else None

    def _count_media(self, body: Mapping[str, Any]) -> None:
        for message in body["messages"]:
            content = message.get("content") if isinstance(message, dict) else None
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and (kind := _kind_of(part)) is not None:
                    self._media[kind] += 1


def _kind_of(part: Mapping[str, Any]) -> str | None:
    """The medium of a content part that nobody has checked yet; `unknown` for a file that does not say."""
    if part.get("type") != "file":
        return _KINDS.get(str(part.get("type")))
    file = part.get("file")
    if not isinstance(file, dict):
        return "unknown"
    kind, name = file.get("kind"), file.get("filename")
    if isinstance(kind, str) and kind in ("image", "video", "audio"):
        return kind
    return kind_of_name(name) or "unknown" if isinstance(name, str) else "unknown"
