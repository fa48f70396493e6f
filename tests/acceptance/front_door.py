"""Sluice as a person uses it: the real command, its real processes, and pictures that it can describe."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sluice.launcher.data_dir import DataDir

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 100.0
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
QUESTION = "Describe this image."


def environment() -> dict[str, str]:
    """Ours, without connections to anything else; one torch thread, since tests share few cores."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    for name in ("DATABASE_URL", "REDIS_URL", "BLOB_URL"):
        kept.pop(name, None)
    return {**kept, "PYTHONPATH": str(REPOSITORY), "SLUICE_NUM_TORCH_THREADS": "1", "SLUICE_DEVICE": "cpu"}


def command(*arguments: object) -> list[str]:
    """The command line of `sluice …`."""
    return [sys.executable, "-m", "sluice", *map(str, arguments)]


def sluice(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `sluice …` to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=SECONDS
    )


@contextmanager
def started(*arguments: object, cwd: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """`sluice …` in the background; ended by SIGTERM at the latest. settings: as SLUICE_… in its environment."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment() | {f"SLUICE_{name}".upper(): value for name, value in settings.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=SECONDS)


def wait_for(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What `condition` says as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (said := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return said


def children(pid: int) -> dict[int, str]:
    """The command lines of a process's children by pid."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = (stat.parent / "cmdline").read_bytes().decode().replace("\0", " ")
        except (OSError, ValueError):
            continue
        if parent == pid:
            found[int(stat.parent.name)] = words
    return found


def kill_child(pid: int, words: str) -> int:
    """Kill -9 the one child of process `pid` with these words in its command line; returns the child's pid."""
    (found,) = (child for child, line in children(pid).items() if words in line)
    os.kill(found, signal.SIGKILL)
    return found


@dataclass(frozen=True)
class Drawing:
    """A picture and what it shows."""

    path: Path
    answer: str


def draw(folder: Path, index: int) -> Drawing:
    """A shape in the middle of a white sheet, another one for each index."""
    folder.mkdir(parents=True, exist_ok=True)
    color, kind = COLORS[index % len(COLORS)], ("circle", "square")[index // len(COLORS) % 2]
    half = 40 + index % 7
    sheet = Image.new("RGB", (200, 200), "white")
    box = (100 - half, 100 - half, 100 + half, 100 + half)
    pen = ImageDraw.Draw(sheet)
    (pen.ellipse if kind == "circle" else pen.rectangle)(box, fill=color)
    path = folder / f"{index}.png"
    sheet.save(path)
    article = "An" if color[0] in "aeiou" else "A"
    return Drawing(path, f"{article} {color} {kind} on a white background.")


def write_manifest(path: Path, rows: list[object]) -> Path:
    """A manifest of these rows; text goes as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines) + "\n")
    return path


def picture_rows(folder: Path, count: int) -> tuple[list[object], dict[str, str]]:
    """Short lines that name pictures beside the manifest, and the right answers by id."""
    drawings = [draw(folder / "media", index) for index in range(count)]
    rows: list[object] = [
        {"id": f"shape-{index}", "image": f"media/{drawing.path.name}", "prompt": QUESTION}
        for index, drawing in enumerate(drawings)
    ]
    return rows, {f"shape-{index}": drawing.answer for index, drawing in enumerate(drawings)}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_in(path: Path) -> dict[str, str]:
    """The answers of a results file by id; none may be there twice."""
    rows = rows_of(path)
    answers = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}
    assert len(answers) == len(rows)
    return answers


def run_folder(cwd: Path) -> Path:
    """The data directory of the only run that was made in a folder."""
    (folder,) = (cwd / ".sluice" / "runs").iterdir()
    return folder


def url_in(data_dir: Path) -> str | None:
    """Where the stack on a data directory answers, once it has said so."""
    running = DataDir(data_dir).running()
    return running.url if running else None
