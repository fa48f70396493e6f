"""The texts that the tokenizer learns its pieces from."""

import numpy as np

from models.training.clips import clip_questions, compose_clip
from models.training.pairs import CHANGES, compose_pair, pair_questions
from models.training.questions import image_questions
from models.training.samples import mixed_questions
from models.training.scenes import NARROW, compose, pick
from models.training.small_talk import small_talk
from models.training.sounds import compose_sound, sound_questions
from models.training.wordings import system_prompt


def corpus(rng: np.random.Generator, num_scenes: int = 3000) -> list[str]:
    """Questions and answers of every kind, without drawing any media."""
    asked = []
    for i in range(num_scenes):
        scene = compose(rng, i % 5 + 1, NARROW, size=(96, 96))
        asked += image_questions(rng, scene, 6)
        if i % 5 < 3 and i < 1200:
            asked += mixed_questions(rng, scene, compose_sound(rng, NARROW), 2)
    for _ in range(num_scenes * 4 // 15):
        asked += clip_questions(rng, compose_clip(rng, NARROW, size=(96, 96)), 3)
        asked += sound_questions(rng, compose_sound(rng, NARROW), 2)
        asked += pair_questions(rng, compose_pair(rng, pick(rng, CHANGES), NARROW, (96, 96)), 3)
    asked += [small_talk(rng) for _ in range(num_scenes * 4 // 3)]
    texts = [text for question in asked for text in (question.question, question.answer)]
    return texts + [system_prompt(rng) for _ in range(num_scenes * 2 // 15)]
