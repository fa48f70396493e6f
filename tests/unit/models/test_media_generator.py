"""What the generator promises of its media and questions."""

import numpy as np
import pytest
from PIL import Image

from models.training import wordings
from models.training.demo import MODALITIES, examples
from models.training.exam import NEW_TALK, NEW_WORDINGS, Video
from models.training.pairs import CHANGES, compose_pair, pair_questions
from models.training.questions import IMAGE_TASKS, image_questions
from models.training.samples import Frame, Sampler
from models.training.scenes import NARROW, WIDE, Reach, Scene, compose, draw_indices
from models.training.small_talk import small_talk
from models.training.sounds import KINDS, LONGEST, PITCHES, compose_sound, recorded


def _bytes_of(media: tuple[object, ...]) -> list[bytes]:
    found = []
    for medium in media:
        if isinstance(medium, Frame):
            medium = medium.picture
        found.append(
            medium.tobytes() if isinstance(medium, Image.Image | np.ndarray) else repr(medium).encode()
        )
    return found


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("reach", [NARROW, WIDE])
def test_the_same_seed_draws_the_same_sample(modality: str, reach: Reach) -> None:
    once, again = (Sampler(reach, 4, {}).draw(np.random.default_rng(3), modality, 5) for _ in range(2))

    assert once.questions == again.questions
    assert _bytes_of(once.media) == _bytes_of(again.media)


@pytest.mark.parametrize("modality", MODALITIES)
def test_another_seed_draws_another_example(modality: str) -> None:
    def said(seed: int) -> list[tuple[str, str]]:
        return [(item.question, item.answer) for item in examples(modality, 8, seed)]

    assert said(1) == said(1)
    assert said(1) != said(2)
    assert len(said(1)) == 8


def _scenes(num_scenes: int) -> list[Scene]:
    rng = np.random.default_rng(11)
    return [compose(rng, i % 5 + 1, WIDE if i % 2 else NARROW) for i in range(num_scenes)]


def test_a_question_about_a_picture_never_has_two_right_answers() -> None:
    rng = np.random.default_rng(0)
    for scene in _scenes(40):
        answers: dict[str, set[str]] = {}
        for question in image_questions(rng, scene, 150):
            if not question.task.startswith("caption"):
                answers.setdefault(question.question.lower(), set()).add(question.answer)
        assert all(len(found) == 1 for found in answers.values())


def test_every_image_task_is_asked() -> None:
    rng = np.random.default_rng(0)
    asked = {q.task.split()[0] for scene in _scenes(20) for q in image_questions(rng, scene, 40)}

    assert asked == {task.split()[0] for task in IMAGE_TASKS}


def test_no_shape_hides_another_or_leaves_the_picture() -> None:
    for scene in _scenes(200):
        alone = [int((draw_indices([shape], 300, 300) > 0).sum()) for shape in scene.shapes]
        together = draw_indices(scene.shapes, 300, 300)
        for i, area in enumerate(alone):
            assert (together == i + 1).sum() > 0.97 * area
        for shape in scene.shapes:
            assert shape.radius < shape.x < 1 - shape.radius
            assert shape.radius < shape.y < 1 - shape.radius


@pytest.mark.parametrize("change", CHANGES)
def test_pairs_differ_in_exactly_what_the_answer_says(change: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(30):
        pair = compose_pair(rng, change, WIDE)
        first, second = set(pair.first.shapes), set(pair.second.shapes)
        gone, new = first - second, second - first
        wanted = {"none": (0, 0), "add": (0, 1), "remove": (1, 0)}.get(change, (1, 1))
        assert (len(gone), len(new)) == wanted
        assert pair_questions(rng, pair, 3)[0].answer == pair.answer


def test_every_pitch_has_a_name_and_440_hz_is_a_medium_tone() -> None:
    edges = [edge for low_high in PITCHES.values() for edge in low_high]

    assert edges[1:-1:2] == edges[2::2]
    assert edges[0] <= 60
    assert edges[-1] >= 6000
    assert PITCHES["medium"][0] < 440 < PITCHES["medium"][1]


@pytest.mark.parametrize("kind", KINDS)
def test_sounds_fit_the_model_and_never_clip(kind: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(30):
        sound = compose_sound(rng, WIDE, kind, margin=0.12)
        heard = recorded(rng, sound, WIDE)
        assert heard.dtype == np.float32
        assert len(heard) <= LONGEST
        assert np.abs(sound.samples).max() <= 1
        low, high = {"low": (60, 350), "medium": (350, 1400), "high": (1400, 6500)}.get(
            next((name for name in PITCHES if name in sound.answer), ""), (0, 9e9)
        )
        assert low <= sound.highest_hz <= high


def test_clips_for_grading_have_two_to_sixty_frames() -> None:
    videos = [item.media[0] for item in examples("video", 20)]

    assert all(isinstance(video, Video) and 2 <= len(video.frames) < 60 for video in videos)


def test_new_wordings_are_new() -> None:
    known = {q for questions in wordings.CAPTION.values() for q in questions}
    rng = np.random.default_rng(0)
    talk = {small_talk(rng).question.lower() for _ in range(3000)}

    assert not known & {q for questions in NEW_WORDINGS.values() for q in questions}
    fresh = [question for question, _ in NEW_TALK if question.lower() not in talk]
    assert len(fresh) >= 0.8 * len(NEW_TALK)


def test_small_talk_covers_every_kind_of_message_with_one_reply_each() -> None:
    rng = np.random.default_rng(0)
    replies: dict[str, set[str]] = {}
    for _ in range(300):
        said = small_talk(rng)
        replies.setdefault(said.task, set()).add(said.answer)

    assert len(replies) == 5
    assert all(len(found) == 1 for found in replies.values())
