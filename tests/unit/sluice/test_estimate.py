"""What `sluice submit --dry-run` prints."""

from typing import Any

import pytest

from sluice.runs.estimate import is_clean, print_estimate

TOLD: dict[str, Any] = {
    "status": "completed",
    "errors": None,
    "lines": {"total": 1_000_000, "valid": 999_990, "invalid": 10, "errors": []},
    "media": {"image": 2_000_000, "video": 0, "audio": 0, "unknown": 0},
    "sample": {"wanted": 256, "measured": 256, "failed": 0},
    "failed_lines": [],
    "tokens": {
        "prompt": {
            "measured": 20_000,
            "estimated": 78_000_000,
            "low": 77_000_000,
            "high": 79_000_000,
            "text": 14_000_000,
            "image": 64_000_000,
            "video": 0,
            "audio": 0,
        },
        "answer": {"upper_bound": 512_000_000, "expected": 12_000_000},
    },
    "estimated_seconds": 7384.0,
    "note": None,
}
TABLE = """\
lines           1,000,000, of which 10 would fail at once
measured        256 of them, of which 0 would fail
media           2,000,000 image
prompt tokens   78,000,000 (77,000,000 to 79,000,000)
  text          14,000,000
  image         64,000,000
answer tokens   about 12,000,000, at most 512,000,000
time            about 2:03:04
"""


def printed(capsys: pytest.CaptureFixture[str], **changed: Any) -> str:
    print_estimate({**TOLD, **changed})
    return capsys.readouterr().out


def test_the_estimate_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == TABLE


def test_what_would_fail_is_told_within_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    fault = {"code": "unknown_field", "count": 99, "message": "long " * 40, "lines": list(range(1000, 1010))}
    failed = {"line": 7, "custom_id": "x" * 90, "error": {"message": "The file\x1b[2J is empty. " * 9}}
    text = printed(
        capsys,
        lines={**TOLD["lines"], "errors": [fault]},
        failed_lines=[failed] * 12,
        sample={**TOLD["sample"], "failed": 12},
        estimated_seconds=None,
        note="The time is unknown.",
    )

    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "unknown_field: 99 lines (1000, 1001" in text
    assert "… and 2 more of the measured lines" in text
    assert "The time is unknown." in text


def test_a_manifest_that_cannot_be_used_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"data": [{"message": "The manifest has no lines."}]}
    text = printed(capsys, status="failed", lines=None, errors=refused)

    assert text == "The manifest as a whole cannot be used: The manifest has no lines.\n"


def test_the_exit_code_speaks_of_lines_that_would_fail() -> None:
    good = {**TOLD, "lines": {**TOLD["lines"], "invalid": 0}}

    assert is_clean(good)
    assert not is_clean(TOLD)
    assert not is_clean({**good, "sample": {**TOLD["sample"], "failed": 1}})
    assert not is_clean({**good, "status": "failed", "lines": None})
