"""Samples of every modality with their right answers, for demos and for the tests of other rooms."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import numpy as np

from models.training.exam import (
    Item,
    audio_items,
    image_items,
    mixed_items,
    pair_items,
    text_items,
    video_items,
)

MODALITIES: Mapping[str, Callable[[np.random.Generator, int], Iterator[Item]]] = {
    "image": image_items,
    "pair": pair_items,
    "video": video_items,
    "audio": audio_items,
    "mixed": mixed_items,
    "text": text_items,
}


def examples(modality: str, count: int, seed: int = 0) -> list[Item]:
    """`count` items of one modality, the same for the same seed, spread over its tasks.

    An item's media are Pillow images, `Video`s (uint8 frames and frames a second) or float32 sounds at 16 kHz.
    """
    rng = np.random.default_rng([seed, 7])
    pool = list(islice(MODALITIES[modality](rng, 1 + count // 3), 6 * count + 40))
    chosen = rng.permutation(len(pool))[:count]
    return [pool[int(i)] for i in chosen]
