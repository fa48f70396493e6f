"""Training must see exactly what the processor gives at inference."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.training.clips import clip_questions, compose_clip
from models.training.evaluate import prompt
from models.training.exam import Item, Video, recording
from models.training.pictures import Patches, to_patches
from models.training.processor import MediaProcessor, sampled_frames
from models.training.samples import Frame, Sample, Sampler
from models.training.scenes import WIDE
from models.training.sequences import IGNORED, Draft, Media, Typesetter
from models.training.small_talk import small_talk
from models.training.sounds import LONGEST

SEEDS = range(4)


def _packed_ids(processor: MediaProcessor, sample: Sample) -> tuple[torch.Tensor, list[Patches], Media]:
    media = Media()
    typesetter = Typesetter(processor.tokenizer)
    draft = typesetter.draft(sample, media)
    patches = [to_patches(picture) for picture in media.pictures]
    num_tokens = []
    if media.sounds:
        features = processor.feature_extractor(
            media.sounds, return_tensors="pt", padding="max_length", max_length=LONGEST
        )
        num_tokens = features["input_features_mask"][:, ::2][:, ::2].sum(1).tolist()
    packed = typesetter.pack([draft], 700, [p.num_tokens for p in patches], num_tokens)
    first_answer = int((packed.targets[0] != IGNORED).nonzero()[0]) + 1
    return packed.ids[0, :first_answer], patches, media


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("modality", ["image", "pair", "audio", "mixed", "text"])
def test_a_sample_is_packed_as_the_processor_would(
    processor: MediaProcessor, modality: str, seed: int
) -> None:
    sample = Sampler(WIDE, 4, {}).draw(np.random.default_rng(seed), modality, 1)
    ids, patches, media = _packed_ids(processor, sample)
    still = tuple(m for m in sample.media if isinstance(m, Image.Image | np.ndarray))
    item = Item("", still, sample.questions[0].question, "")
    given: dict[str, object] = {"images": [media.pictures]} if media.pictures else {}
    if media.sounds:
        given["audio"] = media.sounds

    wanted = processor(text=[prompt(processor, item)], return_tensors="pt", **given)

    assert ids.tolist() == wanted["input_ids"][0].tolist()
    for i, patch in enumerate(patches):
        np.testing.assert_allclose(patch.pixels, wanted["pixel_values"][i].numpy(), atol=1e-3)
        assert (patch.positions == wanted["image_position_ids"][i].numpy()).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clip_is_packed_as_the_processor_would(processor: MediaProcessor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = compose_clip(rng, WIDE)
    video = recording(rng, clip) if seed else Video(clip.frames(2), 1.0)
    question = clip_questions(rng, clip, 1)[0]
    frames = tuple(
        Frame(Image.fromarray(video.frames[i]), float(i / video.fps))
        for i in sampled_frames(len(video.frames), 4)
    )

    ids, patches, _ = _packed_ids(processor, Sample(frames, (question,)))
    about = {
        "fps": video.fps,
        "total_num_frames": len(video.frames),
        "duration": len(video.frames) / video.fps,
    }
    item = Item("", (video,), question.question, "")
    wanted = processor(
        text=[prompt(processor, item)], videos=[video.frames], video_metadata=[about], return_tensors="pt"
    )

    assert ids.tolist() == wanted["input_ids"][0].tolist()
    for i, patch in enumerate(patches):
        np.testing.assert_allclose(patch.pixels, wanted["pixel_values_videos"][i].numpy(), atol=1e-3)


def test_a_conversation_is_packed_as_the_chat_template_writes_it(processor: MediaProcessor) -> None:
    questions = tuple(small_talk(np.random.default_rng(i)) for i in range(3))
    typesetter = Typesetter(processor.tokenizer)
    draft = Draft((typesetter.head(None),), Sample((), questions), conversation=True)

    packed = typesetter.pack([draft], 300, [], [])

    messages = []
    for question in questions:
        messages.append({"role": "user", "content": question.question})
        messages.append({"role": "assistant", "content": question.answer})
    text = processor.apply_chat_template(messages, tokenize=False)
    wanted = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    length = len(wanted) - 1  # the template ends the last turn with a line break that is never predicted
    assert packed.ids[0, :length].tolist() == wanted[:length]
    assert packed.positions[0, :length].tolist() == list(range(length))
    assert (packed.mask[0, 0, length - 1, :length] == 0).all()


def test_questions_behind_one_picture_do_not_see_each_other(processor: MediaProcessor) -> None:
    sample = Sampler(WIDE, 4, {}).draw(np.random.default_rng(1), "image", 3)
    typesetter, media = Typesetter(processor.tokenizer), Media()
    draft = typesetter.draft(sample, media)
    num_tokens = [to_patches(picture).num_tokens for picture in media.pictures]

    packed = typesetter.pack([draft], 400, num_tokens, [])

    first, second = ((packed.owner[0] == i).nonzero().flatten() for i in (0, 1))
    seen = packed.mask[0, 0] == 0
    assert not seen[second[:, None], first[None]].any()
    assert seen[second, 0].all()
    assert packed.tasks == [question.task for question in sample.questions]
