"""The plain way to an answer, as a family's page on the hub shows it: its processor, then `generate`."""

from typing import Any

import torch
from family_checkpoints import Family
from family_conversations import Request
from PIL import Image
from transformers import AutoProcessor, VoxtralProcessor, WhisperFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.video_utils import VideoMetadata

from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.model.prompting.chat_format import Message

# In standard deviations of a token's logits; a rounding on another processor may turn a choice that is closer.
_LEAST_MARGIN = 1e-3


def plain_features(family: Family, request: Request) -> BatchFeature:
    """What the processor of transformers makes of a conversation."""
    messages, options = _filled(request), _video_options(request[1])
    if family.name == "voxtral":
        return _voxtral_features(family, messages)
    processor: Any = AutoProcessor.from_pretrained(family.folder)
    if family.name.startswith("qwen") and "omni" in family.name and options:
        # These have no other way to learn how far apart the frames are.
        options["fps"] = 2.0
    features: BatchFeature = processor.apply_chat_template(
        messages,
        chat_template=processor.chat_template or processor.tokenizer.chat_template,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
        processor_kwargs=options,
    )
    return features.to(torch.float32)


def decided_answer(family: Family, features: BatchFeature, num_tokens: int) -> list[int]:
    """What `generate` answers greedily, up to the first token that a rounding could turn."""
    settings: Any = family.loaded.model.generation_config
    settings.eos_token_id = None
    output: Any = family.loaded.model.generate(  # type: ignore[operator]
        **features,
        max_new_tokens=num_tokens,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits = torch.cat(output.logits)
    best = logits.topk(2).values
    decided = (best[:, 0] - best[:, 1]) / logits.std(dim=-1) > _LEAST_MARGIN
    num_decided = int(decided.long().cumprod(0).sum())
    answer: list[int] = output.sequences[0, -len(logits) :].tolist()
    return answer[:num_decided]


def _filled(request: Request) -> list[Message]:
    """The messages with every medium in its part, in the form that all families' processors take."""
    messages, media = request[0], iter(request[1])
    return [
        {
            **message,
            "content": [part if "text" in part else _part(next(media)) for part in message["content"]],
        }
        for message in messages
    ]


def _part(medium: Decoded) -> Message:
    match medium:
        case DecodedImage():
            return {"type": "image", "image": Image.fromarray(medium.pixels)}
        case DecodedVideo():
            return {"type": "video", "video": medium.frames}
        case DecodedAudio():
            return {"type": "audio", "audio": medium.samples}


def _video_options(media: list[Decoded]) -> dict[str, Any]:
    about = [
        VideoMetadata(
            total_num_frames=video.total_frames,
            fps=video.fps,
            duration=video.seconds,
            frames_indices=list(video.frame_indices),
        )
        for video in media
        if isinstance(video, DecodedVideo)
    ]
    return {"do_sample_frames": False, "video_metadata": about} if about else {}


def _voxtral_features(family: Family, messages: list[Message]) -> BatchFeature:
    """Token by token after mistral-common, which transformers would ask, and the sounds by transformers."""
    tokenizer: Any = family.loaded.prompter._original.tokenizer
    ids, sounds = [family.token_id("<s>")], []
    for message in messages:
        before, after = ("[INST]", "[/INST]") if message["role"] == "user" else ("", "</s>")
        ids += [family.token_id(before)] if before else []
        for part in message["content"]:
            if "text" in part:
                ids += tokenizer.encode(part["text"], add_special_tokens=False)
            else:
                ids += [family.token_id("[BEGIN_AUDIO]"), *[family.token_id("[AUDIO]")] * 375]
                sounds.append(part["audio"])
        ids.append(family.token_id(after))
    tensors = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if sounds:
        processor: Any = VoxtralProcessor(WhisperFeatureExtractor.from_pretrained(family.folder), tokenizer)
        options = {**VoxtralProcessor.audio_kwargs}
        tensors["input_features"] = processor._retrieve_input_features(
            sounds, options.pop("max_source_positions"), **options
        )
    return BatchFeature(tensors)
