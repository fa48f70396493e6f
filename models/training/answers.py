"""The second lesson: answers to questions about pictures, pairs, clips, sounds, and without any media."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from models.training.checkpoint import MAX_FRAMES, TOKEN_ID
from models.training.labels import normalized, owners
from models.training.learner import Learner
from models.training.pairs import CHANGES
from models.training.pictures import Patches, stack, to_patches
from models.training.processor import MediaProcessor
from models.training.questions import IMAGE_TASKS
from models.training.samples import Sample, Sampler
from models.training.sequences import IGNORED, Draft, Media, Packed, Typesetter
from models.training.sounds import KINDS as SOUND_KINDS
from models.training.sounds import LONGEST
from models.training.stages import WEIGHTS, AnswerStage

ERROR_MEMORY = 0.995  # per question and process
TASKS = (
    *(f"caption {n}" for n in (1, 2, 3, 4)),
    *(task for task in IMAGE_TASKS if task != "caption"),
    *(f"pair {change}" for change in (*CHANGES, "same", "first", "second")),
    *("video", "video motion", "video color", "video shape", "video background"),
    *(f"audio {kind}" for kind in (*SOUND_KINDS, "beep count")),
    *("mixed", "mixed image", "mixed audio", "mixed beep count"),
    *(f"mixed {task}" for task in ("color", "shape", "count", "where", "background")),
    *(f"text {kind}" for kind in ("hello", "about", "media", "thanks", "other")),
)
LOSSES = (*(f"loss {modality}" for modality in WEIGHTS), "pair label", "pair label here")


class AnswerTask:
    """Teaches all but the vision tower to answer."""

    names = (*TASKS, *LOSSES)

    def __init__(self, learner: Learner, stage: AnswerStage, processor: MediaProcessor) -> None:
        self.stage, self.learner = stage, learner
        self.model, self.core = learner.model, learner.model.model
        self.pair_head = learner.heads["pair"]
        self.features = processor.feature_extractor
        self.typesetter = Typesetter(processor.tokenizer)
        self.errors: dict[str, float] = {}
        self.model.requires_grad_(True)
        self.core.vision_tower.requires_grad_(False)
        for tower in (self.core.vision_tower.encoder, self.core.language_model, self.core.audio_tower):
            learner.compile(tower.layers, dynamic=True)
        learner.compile([self.core.audio_tower.subsample_conv_projection], dynamic=False)
        self.named_parameters = list(learner.answer_parameters())
        self._index = {name: i for i, name in enumerate(self.names)}

    def backward(self, rng: np.random.Generator, step: int) -> torch.Tensor:
        """Add the gradients of one step over all modalities. Returns [2, names]: right, and asked."""
        drafts, media = self._draw(rng, easy=step < self.stage.num_easy_steps)
        patches = [to_patches(picture) for picture in media.pictures]
        seen = self._see(patches)
        heard, sound_tokens = self._hear(media.sounds)
        heard_here = [sound.detach().requires_grad_() for sound in heard]
        tally = torch.zeros(2, len(self.names))
        for modality, rows in self.stage.rows.items():
            packed = self.typesetter.pack(
                drafts[modality], rows.num_tokens, [p.num_tokens for p in patches], sound_tokens
            )
            hidden = self._decode(packed, seen, heard_here)
            asked = packed.targets != IGNORED
            logits = self.model.lm_head(hidden[asked]).float()
            loss = functional.cross_entropy(logits, packed.targets[asked])
            self._note(tally, f"loss {modality}", loss.item())
            self._mark(tally, packed, asked, logits)
            loss = loss * self.stage.weights.get(modality, WEIGHTS[modality])
            if modality == "pair" and self.stage.pair_labels:
                loss = loss + self.stage.pair_labels * self._pair_loss(tally, packed, drafts["pair"], patches)
            loss.backward()  # type: ignore[no-untyped-call]
        if heard:
            torch.autograd.backward(
                [sound for sound, here in zip(heard, heard_here, strict=True) if here.grad is not None],
                [here.grad for here in heard_here if here.grad is not None],
            )
        return tally

    def _draw(self, rng: np.random.Generator, *, easy: bool) -> tuple[dict[str, list[Draft]], Media]:
        sampler = Sampler(self.stage.reach, MAX_FRAMES, self.errors, easy)
        media = Media()
        drafts = {
            modality: [
                self.typesetter.draft(sampler.draw(rng, modality, rows.questions), media, rng)
                for _ in range(rows.count)
            ]
            for modality, rows in self.stage.rows.items()
        }
        return drafts, media

    def _see(self, patches: list[Patches]) -> Sequence[torch.Tensor]:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            hidden = self.core.vision_tower(*stack(patches)).last_hidden_state
        return torch.split(hidden, [p.num_tokens for p in patches])

    def _hear(self, sounds: list[np.ndarray]) -> tuple[Sequence[torch.Tensor], list[int]]:
        if not sounds:
            return [], []
        features = self.features(sounds, return_tensors="pt", padding="max_length", max_length=LONGEST)
        with torch.autocast("cpu", torch.bfloat16):
            out = self.core.audio_tower(
                features["input_features"], features["input_features_mask"], return_dict=True
            )
        num_tokens = out.attention_mask.sum(1).tolist()
        return torch.split(out.last_hidden_state[out.attention_mask], num_tokens), num_tokens

    def _decode(
        self, packed: Packed, seen: Sequence[torch.Tensor], heard: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        core, ids = self.core, packed.ids
        with torch.autocast("cpu", torch.bfloat16):
            embedded = core.language_model.embed_tokens(ids)
            if packed.pictures:
                pictures = core.embed_vision(inputs_embeds=torch.cat([seen[i] for i in packed.pictures]))
                here = (ids == TOKEN_ID["<|image|>"]) | (ids == TOKEN_ID["<|video|>"])
                embedded = embedded.masked_scatter(here[..., None], pictures.to(embedded.dtype))
            if packed.sounds:
                sounds = core.embed_audio(inputs_embeds=torch.cat([heard[i] for i in packed.sounds]))
                here = ids == TOKEN_ID["<|audio|>"]
                embedded = embedded.masked_scatter(here[..., None], sounds.to(embedded.dtype))
            hidden: torch.Tensor = core.language_model(
                inputs_embeds=embedded,
                attention_mask={"full_attention": packed.mask, "sliding_attention": packed.mask},
                position_ids=packed.positions,
                use_cache=False,
            ).last_hidden_state
        return hidden

    def _pair_loss(
        self, tally: torch.Tensor, packed: Packed, drafts: list[Draft], patches: list[Patches]
    ) -> torch.Tensor:
        """What happened to the shape under every token of the second picture and, at its end, to the pair."""
        second = (packed.ids == TOKEN_ID["<|image>"]).cumsum(1) == 2
        asked = ((packed.ids == TOKEN_ID["<|image|>"]) | (packed.ids == TOKEN_ID["<image|>"])) & second
        wanted: list[np.ndarray] = []
        for draft, index in zip(drafts, packed.pictures[1::2], strict=True):
            wanted.append(_pair_labels(draft.sample, patches[index]))
        labels = torch.from_numpy(np.concatenate(wanted))
        scores = self.pair_head(normalized(self.learner.pair_hidden[asked]))
        whole = torch.from_numpy(np.cumsum([len(w) for w in wanted]) - 1)
        shapes = labels >= 0
        shapes[whole] = False
        self._note(tally, "pair label", _accuracy(scores[whole], labels[whole]))
        self._note(tally, "pair label here", _accuracy(scores[shapes], labels[shapes]))
        loss = functional.cross_entropy(scores[whole], labels[whole])
        return loss + 0.5 * functional.cross_entropy(scores[shapes], labels[shapes])

    def _mark(self, tally: torch.Tensor, packed: Packed, asked: torch.Tensor, logits: torch.Tensor) -> None:
        """Count an answer as right where every one of its tokens is the likeliest."""
        right = (logits.argmax(-1) == packed.targets[asked]).float()
        answers = torch.ones(len(packed.tasks)).scatter_reduce(0, packed.owner[asked], right, "amin")
        for task, value in zip(packed.tasks, answers.tolist(), strict=True):
            self._note(tally, task, value)

    def _note(self, tally: torch.Tensor, name: str, value: float) -> None:
        tally[0, self._index[name]] += value
        tally[1, self._index[name]] += 1

    def learn_from(self, tally: torch.Tensor) -> None:
        """Remember what is still wrong, so that it is asked more often."""
        for task, right, count in zip(TASKS, *tally[:, : len(TASKS)].tolist(), strict=True):
            if count:
                key = "caption" if task.startswith("caption") else task
                memory = ERROR_MEMORY**count
                self.errors[key] = memory * self.errors.get(key, 1.0) + (1 - memory) * (1 - right / count)


def _pair_labels(sample: Sample, patches: Patches) -> np.ndarray:
    """For every token of the second picture the status of its shape or -100, then the pair's. int64 [tokens + 1]."""
    pair = sample.pair
    assert pair is not None
    owner, _ = owners(pair.second.shapes, patches.columns, patches.rows)
    status = np.array([*pair.shape_status, 0])[owner]
    return np.append(np.where(owner >= 0, status, IGNORED), pair.status).astype(np.int64)


def _accuracy(scores: torch.Tensor, wanted: torch.Tensor) -> float:
    return (scores.argmax(-1) == wanted).float().mean().item()
