"""Log files of the children: kept small, and read when a child could not start."""

import re
from pathlib import Path

TAIL_BYTES = 64 << 10
# Celery writes `[2026-01-02 03:04:05,678: ERROR/MainProcess] text`,
# gunicorn `[2026-01-02 03:04:05 +0000] [12] [ERROR] text`.
_PREFIX = re.compile(r"^\[[^\]]*\](?:\s*\[\d+\])?(?:\s*\[\w+\])?\s*")
_ERROR_PREFIX = re.compile(
    r"^\[[^\]]*(?:ERROR|CRITICAL)[^\]]*\]|^\[[^\]]*\]\s*\[\d+\]\s*\[(?:ERROR|CRITICAL)\]"
)
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Unavailable|NotFound|Exit|Full)\b:?\s*(.*)$"
)
LONGEST_SENTENCE = 300
# A sentence that only points here says nothing that the lines before it do not say better.
POINTS_AT_THE_LOG = "its log says why."


def rotate(log: Path, max_bytes: int) -> None:
    """Put a log that has grown too long aside, in place of the one put aside before."""
    if log.exists() and log.stat().st_size > max_bytes:
        log.replace(log.with_suffix(log.suffix + ".1"))


def last_words(log: Path, offset: int = 0) -> str:
    """What the log says went wrong: its last exception or error line, else its last line."""
    lines = [line.rstrip() for line in _tail(log, offset).splitlines() if line.strip()]
    for line in reversed(lines):
        if line.endswith(POINTS_AT_THE_LOG):
            continue
        if found := _EXCEPTION.match(line):
            return _short(found.group(1) or line)
        if _ERROR_PREFIX.match(line) and _PREFIX.sub("", line):
            return _short(_PREFIX.sub("", line))
    return _short(_PREFIX.sub("", lines[-1])) if lines else ""


def _tail(log: Path, offset: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(offset, size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST_SENTENCE else sentence[: LONGEST_SENTENCE - 1] + "…"
