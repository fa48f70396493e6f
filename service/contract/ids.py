"""What our ids look like. A name of another form is unknown before any database is asked: some cannot hold it."""

import re

_FILE_ID = re.compile(r"file-[0-9a-f]{24}")
_BATCH_ID = re.compile(r"batch_[0-9a-f]{24}")
_PREFLIGHT_ID = re.compile(r"preflight_[0-9a-f]{24}")


def is_file_id(text: str) -> bool:
    """Whether a file could have this id."""
    return _FILE_ID.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Whether a batch could have this id."""
    return _BATCH_ID.fullmatch(text) is not None


def is_preflight_id(text: str) -> bool:
    """Whether a preflight could have this id."""
    return _PREFLIGHT_ID.fullmatch(text) is not None
