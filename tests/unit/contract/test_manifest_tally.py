"""Counting a manifest, and drawing from it fairly."""

import json
from typing import Any

from service.contract.manifest import ManifestLine
from service.contract.manifest_tally import NAMED_LINES, ManifestTally
from service.errors import BadRequest


def line(number: int, body: dict[str, Any] | None = None) -> ManifestLine:
    body = body or {"messages": [{"role": "user", "content": "Hello"}]}
    return ManifestLine(number, f"line-{number}", "tiny", json.dumps(body).encode())


def drawn(num_lines: int, num_sampled: int, seed: str) -> list[int]:
    tally = ManifestTally(num_sampled, seed)
    for number in range(1, num_lines + 1):
        tally.take(line(number), "tiny", number * 100, 90)
    return [each.line_no for each in tally.sample]


def with_parts(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def test_every_line_is_as_likely_to_be_drawn_as_any_other() -> None:
    runs, num_lines, num_sampled = 2000, 20, 5
    times = dict.fromkeys(range(1, num_lines + 1), 0)
    for run in range(runs):
        for number in drawn(num_lines, num_sampled, str(run)):
            times[number] += 1

    expected = runs * num_sampled / num_lines
    # Five standard deviations of a count that is drawn a quarter of the time.
    assert all(abs(count - expected) < 5 * (runs * 0.25 * 0.75) ** 0.5 for count in times.values()), times


def test_a_sample_holds_so_many_lines_or_all_of_them_and_is_the_same_again() -> None:
    assert drawn(3, 5, "a") == [1, 2, 3]
    assert len(set(drawn(500, 40, "a"))) == 40
    assert drawn(500, 40, "a") == drawn(500, 40, "a") != drawn(500, 40, "b")


def test_a_drawn_line_can_be_found_again_in_the_manifest() -> None:
    tally = ManifestTally(1, "a")
    tally.take(line(7), "tiny", 600, 44)

    assert tally.sample == [(7, "line-7", "tiny", 600, 44)]


def test_media_are_counted_by_kind_in_whatever_way_they_are_named() -> None:
    tally = ManifestTally(1, "a")
    body = with_parts(
        {"type": "image_url", "image_url": "a.png"},
        {"type": "video_url", "video_url": {"url": "a.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "a.wav"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1", "filename": "b.webp"}},
        {"type": "file", "file": {"file_id": "file-1", "kind": "video"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "an image_url"},
    )
    tally.take(line(1, body), "tiny", 0, 1)
    odd = {"messages": [3, {"content": [3, {"type": "file", "file": 3}, {"type": ["image_url"]}]}]}
    tally.take(line(2, odd), "tiny", 1, 1)

    assert tally.as_dict()["media"] == {"image": 2, "video": 2, "audio": 2, "unknown": 2}


def test_faults_are_counted_by_kind_and_only_the_first_ones_named() -> None:
    tally = ManifestTally(1, "a")
    for number in range(1, 101):
        tally.refuse(number, BadRequest(f"Line {number} is odd.", code="odd" if number % 4 else "even"))

    odd, even = tally.as_dict()["errors"]
    assert (odd["code"], odd["count"], odd["message"]) == ("odd", 75, "Line 1 is odd.")
    assert (even["code"], even["count"], even["lines"][0], len(even["lines"])) == ("even", 25, 4, NAMED_LINES)
    assert tally.as_dict()["total"] == 100
