"""Write the demo manifests, their media and what the model should answer: python -m manifests.make_demo

The media come from the generator that the bundled model was trained with, with seeds it never saw, and from other
code that only shares its vocabulary. The items are chosen within what the model is for.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from models.training.clips import MOTIONS, compose_clip
from models.training.encodings import gif_bytes, picture_bytes, sound_bytes, video_bytes
from models.training.exam import Item, Video, graded_sound
from models.training.pairs import CHANGES, compose_pair
from models.training.questions import IMAGE_TASKS, caption
from models.training.samples import mixed_answer
from models.training.scenes import WIDE, compose, render
from models.training.small_talk import ABOUT_REPLY, HELLO_REPLY, MEDIA_REPLY, OTHER_REPLY, THANKS_REPLY
from models.training.sounds import KINDS
from models.training.stranger import stranger

SEED = 808
UNNAMED = {"a", "an", "the", "on", "to", "of", "in", "there", "are", "is", "and", "background", "was"}
TALK = (
    ("Hello", HELLO_REPLY),
    ("Who are you?", ABOUT_REPLY),
    ("Describe this image.", MEDIA_REPLY),
    ("thank you!", THANKS_REPLY),
    ("What is the capital of France?", OTHER_REPLY),
    ("good morning", HELLO_REPLY),
)
PICTURE_FILES: tuple[tuple[str, Callable[[Image.Image], bytes]], ...] = (
    ("png", lambda picture: picture_bytes(picture, "PNG", optimize=True)),
    ("jpg", lambda picture: picture_bytes(picture, "JPEG", quality=90)),
    ("webp", lambda picture: picture_bytes(picture, "WEBP", quality=85)),
    ("gif", lambda picture: picture_bytes(picture, "GIF")),
)
VIDEO_FILES: tuple[tuple[str, Callable[[Video], bytes]], ...] = (
    ("mp4", lambda video: video_bytes(video, "libx264")),
    ("webm", lambda video: video_bytes(video, "libvpx-vp9")),
    ("gif", gif_bytes),
)
SOUND_FILES: tuple[tuple[str, Callable[[np.ndarray], bytes]], ...] = (
    ("wav", lambda samples: sound_bytes(samples, "wav", "pcm_s16le", 16_000)),
    ("mp3", lambda samples: sound_bytes(samples, "mp3", "libmp3lame", 44_100, 64_000)),
    ("ogg", lambda samples: sound_bytes(samples, "ogg", "libopus", 48_000, 48_000)),
    ("flac", lambda samples: sound_bytes(samples, "flac", "flac", 44_100)),
)


def items() -> dict[str, list[Item]]:
    """All items of the demo by the manifest they also belong to."""
    rng = np.random.default_rng(SEED)
    strange = list(stranger(1, seed=SEED))
    drawn = {
        "images": [*_captions(rng), *_questions(rng), *_pairs(rng)],
        "videos": list(_clips(rng)),
        "audio": list(_sounds(rng)),
        "mixed": list(_mixed(rng)),
        "text": [Item("text", (), question, answer) for question, answer in TALK],
    }
    for item in strange:
        first = item.media[0]
        kind = (
            "images" if isinstance(first, Image.Image) else "videos" if isinstance(first, Video) else "audio"
        )
        drawn[kind].append(item)
    return drawn


def _captions(rng: np.random.Generator) -> Iterator[Item]:
    for num_shapes in (1, 1, 2, 2, 3, 5):
        scene = compose(rng, num_shapes, WIDE)
        picture = render(rng, scene, worn=False)
        yield Item("image", (picture,), "Describe this image.", caption(scene) or "")


def _questions(rng: np.random.Generator) -> Iterator[Item]:
    for task, ask in IMAGE_TASKS.items():
        question = None
        while task != "caption" and question is None:
            scene = compose(rng, int(rng.integers(1, 4)), WIDE, size=(128, 128))
            question = ask(rng, scene)
        if question:
            yield Item(task, (render(rng, scene, worn=False),), question.question, question.answer)


def _pairs(rng: np.random.Generator) -> Iterator[Item]:
    for change in CHANGES:
        pair = compose_pair(rng, change, WIDE, (96, 96))
        pictures = (render(rng, pair.first, worn=False), render(rng, pair.second, worn=False))
        yield Item("pair", pictures, "What changed between the two images?", pair.answer)


def _clips(rng: np.random.Generator) -> Iterator[Item]:
    for motion in MOTIONS:
        clip = compose_clip(rng, WIDE, motion, (128, 96))
        yield Item("video", (Video(clip.frames(24), 12.0),), "What happens in this video?", clip.caption)


def _sounds(rng: np.random.Generator) -> Iterator[Item]:
    for kind in (*KINDS, "beeps"):
        sound = graded_sound(rng, kind)
        yield Item("audio", (sound.samples,), "What do you hear?", sound.answer)


def _mixed(rng: np.random.Generator) -> Iterator[Item]:
    for kind in ("tone", "beeps", "sweep"):
        scene, sound = compose(rng, 1, WIDE, size=(128, 128)), graded_sound(rng, kind)
        media = (render(rng, scene, worn=False), sound.samples)
        yield Item("mixed", media, "Describe what you see and hear.", mixed_answer(scene, sound))


class Folder:
    """The folder of the manifests, and how often each file format and name was used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: Counter[str] = Counter()
        (root / "media").mkdir(parents=True, exist_ok=True)

    def name(self, item: Item) -> str:
        """A short name from what the item shows: 'red-circle-white'."""
        said = item.answer if item.media and len(item.answer) > 4 else item.question
        words = [word for word in re.findall(r"[a-z0-9]+", said.lower()) if word not in UNNAMED]
        base = "-".join(words[:6])
        self.used[base] += 1
        return base if self.used[base] == 1 else f"{base}-{self.used[base]}"

    def write_media(self, name: str, item: Item) -> list[tuple[str, str]]:
        """Write the item's files. Returns the kind and the path of each, as the manifest names it."""
        written = []
        for number, medium in enumerate(item.media):
            suffix = f"-{number + 1}" if len(item.media) > 1 else ""
            kind, ending, data = self._encode(medium)
            path = f"media/{name}{suffix}.{ending}"
            (self.root / path).write_bytes(data)
            written.append((kind, path))
        return written

    def _encode(self, medium: Image.Image | Video | np.ndarray) -> tuple[str, str, bytes]:
        """Take the formats of each kind in turn."""
        kind = (
            "image" if isinstance(medium, Image.Image) else "video" if isinstance(medium, Video) else "audio"
        )
        turn = self.used[f"format of {kind}"]
        self.used[f"format of {kind}"] += 1
        if isinstance(medium, Image.Image):
            ending, picture_file = PICTURE_FILES[turn % len(PICTURE_FILES)]
            return kind, ending, picture_file(medium)
        if isinstance(medium, Video):
            ending, video_file = VIDEO_FILES[turn % len(VIDEO_FILES)]
            return kind, ending, video_file(medium)
        ending, sound_file = SOUND_FILES[turn % len(SOUND_FILES)]
        return kind, ending, sound_file(medium)


def short_line(name: str, files: list[tuple[str, str]], prompt: str) -> dict[str, object]:
    """Our own short form of a manifest line."""
    line: dict[str, object] = {"id": name}
    for kind in dict.fromkeys(kind for kind, _ in files):
        paths = [path for its_kind, path in files if its_kind == kind]
        line.update({kind: paths[0]} if len(paths) == 1 else {f"{kind}s": paths})
    return {**line, "prompt": prompt}


def openai_line(name: str, files: list[tuple[str, str]], prompt: str) -> dict[str, object]:
    """The line as OpenAI's batch files write it."""
    parts: list[dict[str, object]] = [
        {"type": f"{kind}_url", f"{kind}_url": {"url": path}} for kind, path in files
    ]
    content = [*parts, {"type": "text", "text": prompt}]
    body = {"model": "default", "messages": [{"role": "user", "content": content}]}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def write(root: Path) -> None:
    """Write all manifests, their media and the expected answers into `root`."""
    folder = Folder(root)
    manifests: dict[str, list[dict[str, object]]] = {"demo": []}
    expected: list[dict[str, object]] = []
    for kind, drawn in items().items():
        for item in drawn:
            name = folder.name(item)
            files = folder.write_media(name, item)
            form = openai_line if len(manifests["demo"]) % 2 else short_line
            manifests["demo"].append(form(name, files, item.question))
            if kind != "mixed":
                manifests.setdefault(kind, []).append(short_line(name, files, item.question))
            expected.append({"custom_id": name, "expected": [item.answer]})
    for kind, lines in manifests.items():
        _write_lines(root / f"{kind}.jsonl", lines)
    _write_lines(root / "demo.expected.jsonl", expected)


def _write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
