"""The demo manifests are complete and belong together."""

import json
from pathlib import Path
from typing import Any

import pytest

from manifests.make_demo import write
from service.contract.manifest import Defaults, LineError, parse_line

MANIFESTS = Path(__file__).parents[3] / "manifests"
NAMES = ("demo", "images", "videos", "audio", "text")


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (MANIFESTS / f"{name}.jsonl").read_text().splitlines()]


def _id(line: dict[str, Any]) -> str:
    return str(line.get("custom_id") or line["id"])


def _files(line: dict[str, Any]) -> list[str]:
    if "body" in line:
        content = line["body"]["messages"][0]["content"]
        return [part[part["type"]]["url"] for part in content if part["type"] != "text"]
    found = [line[key] for key in ("image", "video", "audio") if key in line]
    return [*found, *line.get("images", [])]


def test_every_line_of_the_demo_has_an_expected_answer() -> None:
    expected = {line["custom_id"]: line["expected"] for line in _lines("demo.expected")}

    assert sorted(expected) == sorted(_id(line) for line in _lines("demo"))
    assert all(answers and all(answers) for answers in expected.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_line_can_be_read_and_names_files_that_are_there(name: str) -> None:
    for number, line in enumerate(_lines(name), start=1):
        parsed = parse_line(json.dumps(line).encode(), number, Defaults(base_dir=str(MANIFESTS)))
        assert not isinstance(parsed, LineError), parsed
        assert all((MANIFESTS / path).is_file() for path in _files(line))


def test_the_demo_covers_both_forms_and_every_modality() -> None:
    lines = _lines("demo")
    endings = {Path(path).suffix for line in lines for path in _files(line)}

    assert 0.4 < sum("body" in line for line in lines) / len(lines) < 0.6
    assert endings == {".png", ".jpg", ".webp", ".gif", ".mp4", ".webm", ".wav", ".mp3", ".ogg", ".flac"}
    assert any(not _files(line) for line in lines)
    assert any(len(_files(line)) == 2 for line in lines)


def test_no_media_file_is_unused_and_all_are_small() -> None:
    used = {path for name in NAMES for line in _lines(name) for path in _files(line)}
    stored = list((MANIFESTS / "media").iterdir())

    assert {f"media/{file.name}" for file in stored} == used
    assert sum(file.stat().st_size for file in stored) < 2_500_000


def test_the_manifests_are_what_the_script_writes(tmp_path: Path) -> None:
    write(tmp_path)

    for name in (*NAMES, "demo.expected"):
        assert (tmp_path / f"{name}.jsonl").read_text() == (MANIFESTS / f"{name}.jsonl").read_text()
