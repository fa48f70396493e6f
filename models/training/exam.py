"""Questions for grading: drawn like the training samples, from seeds that training never uses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from models.training import wordings
from models.training.clips import Clip, compose_clip
from models.training.pairs import CHANGES, compose_pair, pair_questions
from models.training.questions import IMAGE_TASKS, Question, caption, number_of
from models.training.samples import COUNTS, mixed_answer, mixed_questions
from models.training.scenes import WIDE, Scene, compose, pick, render
from models.training.small_talk import (
    ABOUT_REPLY,
    HELLO_REPLY,
    MEDIA_REPLY,
    OTHER_REPLY,
    THANKS_REPLY,
    small_talk,
)
from models.training.sounds import KINDS, Sound, compose_sound

TEST_SEED = 77_2026
GRADED_MARGIN = 0.12  # graded pitches keep this fraction away from the borders between low, medium and high


@dataclass(frozen=True)
class Video:
    """frames: uint8 [frames, height, width, 3]."""

    frames: np.ndarray
    fps: float


Medium = Image.Image | Video | np.ndarray


@dataclass(frozen=True)
class Item:
    """One message and its only right answer. A sound is float32 at 16 kHz."""

    task: str
    media: tuple[Medium, ...]
    question: str
    answer: str
    system: str | None = None


# Wordings that occur nowhere in training.
NEW_WORDINGS = {
    "image": (
        "What's depicted here?",
        "Give me a short caption for the attached photograph.",
        "Could you tell me what I am looking at?",
        "look at this and say what is there",
        "Identify the contents.",
        "How would you describe this to a blind person?",
    ),
    "video": (
        "Walk me through this footage.",
        "What's the action here?",
        "Narrate the clip for me.",
        "so what is it doing in there",
        "Provide a recap.",
        "Explain what takes place.",
    ),
    "audio": (
        "Identify this noise.",
        "What am I listening to?",
        "Which noise does this file contain?",
        "Name that sound!",
        "Tell me what you can make out acoustically.",
    ),
    "mixed": (
        "Tell me everything about these two files.",
        "What do the picture and the audio contain?",
        "Report what you notice.",
    ),
}
NEW_TALK = (
    ("Hello friend", HELLO_REPLY),
    ("hey bot, how's life?", HELLO_REPLY),
    ("Good morning to you!", HELLO_REPLY),
    ("hello!!!", HELLO_REPLY),
    ("hi", HELLO_REPLY),
    ("Hi Zoltan", HELLO_REPLY),
    ("howdy partner", HELLO_REPLY),
    ("hey, how are things?", HELLO_REPLY),
    ("What kind of AI are you?", ABOUT_REPLY),
    ("what are you capable of", ABOUT_REPLY),
    ("Who created you?", ABOUT_REPLY),
    ("Could you help me out?", ABOUT_REPLY),
    ("What is your purpose?", ABOUT_REPLY),
    ("tell me who you are", ABOUT_REPLY),
    ("What's in the photo I sent?", MEDIA_REPLY),
    ("Describe the picture for me.", MEDIA_REPLY),
    ("Can you describe this sound?", MEDIA_REPLY),
    ("What color is the square in the image?", MEDIA_REPLY),
    ("how many circles do you see in it?", MEDIA_REPLY),
    ("Thank you kindly", THANKS_REPLY),
    ("ok bye", THANKS_REPLY),
    ("Thanks, that helped!", THANKS_REPLY),
    ("Who won the match yesterday?", OTHER_REPLY),
    ("Tell me a story about a pirate.", OTHER_REPLY),
    ("zzz qqq", OTHER_REPLY),
    ("What is the tallest mountain in the world?", OTHER_REPLY),
    ("Write a haiku on autumn.", OTHER_REPLY),
    ("Explain photosynthesis to me.", OTHER_REPLY),
    ("Please sort these numbers: 3 1 2", OTHER_REPLY),
    ("Give me the SQL for a left join", OTHER_REPLY),
    ("What is 3 plus 4?", OTHER_REPLY),
    ("how do I cook rice", OTHER_REPLY),
)
SYSTEMS = (
    "You are a careful assistant. Answer in one sentence.",
    "Describe media for blind users.",
    "You are a helpful assistant.",
)


def exam(per_task: int, seed: int = TEST_SEED) -> Iterator[Item]:
    """`per_task` items of every task, in the wordings of training and in new ones."""
    for number, maker in enumerate(
        (image_items, pair_items, video_items, audio_items, mixed_items, text_items)
    ):
        yield from maker(np.random.default_rng([seed, number]), per_task)


def image_items(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for num_shapes in (1, 2, 3, 4):
        for _ in range(per_task):
            scene = compose(rng, num_shapes + int(num_shapes == 4 and rng.random() < 0.5), WIDE)
            question = wordings.caption_request(rng, "image")
            yield _captioned(
                rng, f"caption, {num_shapes}{' or 5' * (num_shapes == 4)} shapes", scene, question
            )
    for task, ask in IMAGE_TASKS.items():
        if task != "caption":
            yield from islice(_asked(rng, task, ask), per_task)
    for i in range(per_task):
        scene, question = _small_scene(rng), NEW_WORDINGS["image"][i % len(NEW_WORDINGS["image"])]
        yield _captioned(rng, "image, new wordings", scene, question)
    for i in range(per_task):
        question = wordings.caption_request(rng, "image")
        yield _captioned(rng, "image, system prompt", _small_scene(rng), question, SYSTEMS[i % len(SYSTEMS)])


def _small_scene(rng: np.random.Generator) -> Scene:
    return compose(rng, int(rng.integers(1, 4)), WIDE)


def _captioned(
    rng: np.random.Generator, task: str, scene: Scene, question: str, system: str | None = None
) -> Item:
    text = caption(scene)
    assert text is not None
    return Item(task, (render(rng, scene, worn=False),), question, text, system)


def _asked(
    rng: np.random.Generator, task: str, ask: Callable[[np.random.Generator, Scene], Question | None]
) -> Iterator[Item]:
    while True:
        scene = compose(rng, int(rng.choice(5, p=COUNTS)) + 1, WIDE)
        question = ask(rng, scene)
        if question:
            yield Item(task, (render(rng, scene, worn=False),), question.question, question.answer)


def pair_items(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for change in CHANGES:
        for _ in range(per_task):
            pair = compose_pair(rng, change, WIDE)
            pictures = (render(rng, pair.first, worn=False), render(rng, pair.second, worn=False))
            yield Item(f"pair {change}", pictures, wordings.ask(rng, wordings.CHANGE), pair.answer)
    for task in ("pair same", "pair first", "pair second"):
        yield from islice(_pair_asked(rng, task), per_task)


def _pair_asked(rng: np.random.Generator, task: str) -> Iterator[Item]:
    while True:
        pair = compose_pair(rng, pick(rng, CHANGES), WIDE)
        pictures = (render(rng, pair.first, worn=False), render(rng, pair.second, worn=False))
        for question in pair_questions(rng, pair, 6):
            if question.task == task:
                yield Item(task, pictures, question.question, question.answer)
                break


def recording(rng: np.random.Generator, clip: Clip) -> Video:
    """The clip with 2 to 60 frames, at 5 to 30 a second."""
    num_frames = int(rng.integers(2, 60))
    return Video(clip.frames(num_frames), float(rng.uniform(5, 30)))


def video_items(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    def film() -> tuple[Clip, tuple[Video, ...]]:
        clip = compose_clip(rng, WIDE)
        return clip, (recording(rng, clip),)

    for _ in range(per_task):
        clip, media = film()
        yield Item("video caption", media, wordings.caption_request(rng, "video"), clip.caption)
        clip, media = film()
        question = wordings.ask(rng, wordings.MOVE, clip.start.kind)
        yield Item("video motion", media, question, f"It {clip.verb}.")
        clip, media = film()
        question = wordings.ask(rng, wordings.COLOR, clip.start.kind)
        answer = f"The {clip.start.kind} is {clip.start.color}."
        yield Item("video color", media, question, answer)
        clip, media = film()
        yield Item("video, new wordings", media, pick(rng, NEW_WORDINGS["video"]), clip.caption)


def graded_sound(rng: np.random.Generator, kind: str | None = None) -> Sound:
    """A sound whose pitch nobody could argue about."""
    return compose_sound(rng, WIDE, kind, GRADED_MARGIN)


def audio_items(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for kind in KINDS:
        for _ in range(per_task):
            sound = graded_sound(rng, kind)
            yield Item(
                f"audio {kind}", (sound.samples,), wordings.caption_request(rng, "audio"), sound.answer
            )
    for _ in range(per_task):
        sound = graded_sound(rng, "beeps")
        question = wordings.ask(rng, wordings.BEEPS)
        yield Item("beep count", (sound.samples,), question, number_of("beep", sound.num_beeps))
        sound = graded_sound(rng)
        yield Item("audio, new wordings", (sound.samples,), pick(rng, NEW_WORDINGS["audio"]), sound.answer)


def mixed_items(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for _ in range(per_task):
        scene, sound = _small_scene(rng), graded_sound(rng)
        picture = render(rng, scene, worn=False)
        media = (picture, sound.samples) if rng.random() < 0.7 else (sound.samples, picture)
        both = mixed_answer(scene, sound)
        yield Item("image + sound", media, wordings.caption_request(rng, "mixed"), both)
        yield Item("image + sound, new wordings", media, pick(rng, NEW_WORDINGS["mixed"]), both)
        question = mixed_questions(rng, scene, sound, 2)[1]
        yield Item("image + sound, a question", media, question.question, question.answer)


def text_items(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for _ in range(5 * per_task):
        said = small_talk(rng)
        yield Item(said.task, (), said.question, said.answer)
    for question, answer in NEW_TALK:
        yield Item("text, new wordings", (), question, answer)
