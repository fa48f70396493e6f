"""Training samples: media, and the questions asked about them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.training import wordings
from models.training.clips import clip_questions, compose_clip, seen_frames
from models.training.pairs import CHANGES, Pair, compose_pair, pair_questions
from models.training.questions import (
    IMAGE_TASKS,
    IMAGE_WEIGHTS,
    Question,
    caption,
    image_questions,
    number_of,
)
from models.training.scenes import Reach, Scene, compose, pick, render
from models.training.small_talk import small_talk
from models.training.sounds import Sound, compose_sound, recorded, sound_questions

EASY_COUNTS = (0.5, 0.3, 0.2, 0.0, 0.0)
COUNTS = (0.27, 0.27, 0.26, 0.1, 0.1)


@dataclass(frozen=True)
class Frame:
    """One frame of a clip and the second at which it was shown."""

    picture: Image.Image
    second: float


@dataclass(frozen=True)
class Sample:
    """Media in the order of the message, and questions about them; of a pair also how it was made."""

    media: tuple[Image.Image | Frame | np.ndarray, ...]
    questions: tuple[Question, ...]
    pair: Pair | None = None


def mixed_answer(scene: Scene, sound: Sound) -> str:
    """The caption of the picture, then what is heard."""
    text = caption(scene)
    assert text is not None
    return f"{text[:-1]}; {sound.answer[0].lower()}{sound.answer[1:]}"


class Sampler:
    """Draws samples; what the model still gets wrong (`errors`, by task, from 0 to 1) comes more often."""

    def __init__(
        self, reach: Reach, max_frames: int, errors: Mapping[str, float], easy: bool = False
    ) -> None:
        self.reach, self.max_frames, self.errors = reach, max_frames, errors
        self.counts = EASY_COUNTS if easy else COUNTS

    def draw(self, rng: np.random.Generator, modality: str, num_questions: int) -> Sample:
        """One sample of a modality: image, pair, video, audio, mixed or text."""
        if modality == "image":
            return self._image(rng, num_questions)
        if modality == "pair":
            return self._pair(rng, num_questions)
        if modality == "video":
            clip = compose_clip(rng, self.reach)
            pictures, seconds = seen_frames(rng, clip, self.reach, self.max_frames)
            frames = tuple(Frame(*frame) for frame in zip(pictures, seconds, strict=True))
            return Sample(frames, tuple(clip_questions(rng, clip, num_questions)))
        if modality == "audio":
            sound = compose_sound(rng, self.reach)
            questions = sound_questions(rng, sound, num_questions)
            return Sample((recorded(rng, sound, self.reach),), tuple(questions))
        if modality == "mixed":
            return self._mixed(rng, num_questions)
        return Sample((), tuple(small_talk(rng) for _ in range(num_questions)))

    def _need(self, task: str) -> float:
        return 0.15 + min(1.0, 2 * self.errors.get(task, 1.0))

    def _image(self, rng: np.random.Generator, num_questions: int) -> Sample:
        scene = compose(rng, int(rng.choice(5, p=self.counts)) + 1, self.reach)
        weights = {task: weight * self._need(task) for task, weight in IMAGE_WEIGHTS.items()}
        questions = image_questions(rng, scene, num_questions, weights)
        return Sample((render(rng, scene),), tuple(questions))

    def _pair(self, rng: np.random.Generator, num_questions: int) -> Sample:
        need = np.array([self._need(f"pair {change}") for change in CHANGES])
        change = CHANGES[int(rng.choice(len(CHANGES), p=need / need.sum()))]
        pair = compose_pair(rng, change, self.reach)
        pictures = (render(rng, pair.first), render(rng, pair.second))
        return Sample(pictures, tuple(pair_questions(rng, pair, num_questions)), pair)

    def _mixed(self, rng: np.random.Generator, num_questions: int) -> Sample:
        scene = compose(rng, int(rng.choice((1, 2, 3), p=(0.5, 0.3, 0.2))), self.reach)
        sound = compose_sound(rng, self.reach)
        picture, samples = render(rng, scene), recorded(rng, sound, self.reach)
        media = (picture, samples) if rng.random() < 0.7 else (samples, picture)
        return Sample(media, tuple(mixed_questions(rng, scene, sound, num_questions)))


def mixed_questions(rng: np.random.Generator, scene: Scene, sound: Sound, count: int) -> list[Question]:
    """`count` questions about a picture and a sound in one message, the one about both first."""
    both, seen = mixed_answer(scene, sound), caption(scene)
    assert seen is not None
    asked = [Question("mixed", wordings.caption_request(rng, "mixed"), both)]
    while len(asked) < count:
        u = rng.random()
        if u < 0.3:
            asked.append(Question("mixed image", wordings.ask(rng, wordings.ONLY_IMAGE), seen))
        elif u < 0.6:
            asked.append(Question("mixed audio", wordings.ask(rng, wordings.ONLY_AUDIO), sound.answer))
        elif u < 0.7 and sound.num_beeps:
            answer = number_of("beep", sound.num_beeps)
            asked.append(Question("mixed beep count", wordings.ask(rng, wordings.BEEPS), answer))
        elif u < 0.8:
            asked.append(Question("mixed", wordings.caption_request(rng, "mixed"), both))
        else:
            task = pick(rng, ("color", "shape", "count", "where", "background"))
            question = IMAGE_TASKS[task](rng, scene)
            if question:
                asked.append(Question(f"mixed {task}", question.question, question.answer))
    return asked[:count]
