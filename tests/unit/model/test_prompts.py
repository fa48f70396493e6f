"""Prompts of several families, through their real processors."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from family_processors import (
    clip,
    gemma3,
    idefics,
    llava,
    needs_torchvision,
    picture,
    qwen,
    shown,
    sound,
    user,
)
from PIL import Image
from transformers.video_utils import VideoMetadata

from service.errors import BadMedia, BadRequest
from workers.media.decoded import DecodedAudio, DecodedImage, DecodedVideo
from workers.model.prompting.prepared import PromptCounts
from workers.model.prompting.prompts import Prompter
from workers.model.prompting.templates import ChatTemplate

FAMILIES = [pytest.param(qwen, marks=needs_torchvision), idefics, gemma3, llava]
IMAGE_TOKENS = {"qwen": 6, "idefics": 20, "gemma3": 4, "llava": 16}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Callable[..., Prompter]:
    """Each family whose pictures we can prepare here."""
    return request.param  # type: ignore[no-any-return]


def own_path(
    prompter: Prompter, messages: list[dict[str, object]], **options: object
) -> dict[str, torch.Tensor]:
    """What the processor gives when asked directly, as its documentation says."""
    return dict(
        prompter._original.apply_chat_template(
            messages,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            processor_kwargs=options,
        )
    )


def assert_same(prepared: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert prepared.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(prepared[name], tensor), name


def test_a_picture_and_text_give_exactly_what_the_family_s_processor_gives(
    family: Callable[..., Prompter],
) -> None:
    prompter, image = family(), picture()

    prepared = prompter.prepare(user("@image", "What is it?"), [image])

    parts = [{"type": "image", "image": image.pixels}, {"type": "text", "text": "What is it?"}]
    assert_same(dict(prepared.inputs), own_path(prompter, [{"role": "user", "content": parts}]))


def test_tokens_are_counted_by_modality_and_sum_to_the_prompt(family: Callable[..., Prompter]) -> None:
    prompter = family()

    one = prompter.prepare(user("@image", "What is it?"), [picture()])
    two = prompter.prepare(user("@image", "@image", "What is it?"), [picture(), picture()])
    none = prompter.prepare(user("What is it?"), [])

    expected = IMAGE_TOKENS[family.__name__]
    assert (one.counts.image, two.counts.image, none.counts.image) == (expected, 2 * expected, 0)
    assert all(each.counts.total == each.num_tokens for each in (one, two, none))


def test_plain_text_content_is_the_same_as_one_text_part(family: Callable[..., Prompter]) -> None:
    prompter = family()

    plain = prompter.prepare([{"role": "user", "content": "Hello"}], [])

    assert_same(dict(plain.inputs), dict(prompter.prepare(user("Hello"), []).inputs))
    assert "Hello" in shown(prompter, plain.inputs["input_ids"][0].tolist())


@needs_torchvision
def test_parts_keep_their_order() -> None:
    prompter = qwen()

    prepared = prompter.prepare(user("first", "@image", "then", "@video", "last"), [picture(), clip()])

    text = shown(prompter, prepared.inputs["input_ids"][0].tolist())
    places = [text.index(word) for word in ("first", "<|image_pad|>", "then", "<|video_pad|>", "last")]
    assert places == sorted(places)


@needs_torchvision
def test_a_video_is_not_sampled_again_and_keeps_its_times() -> None:
    prompter, video = qwen(), clip(num_frames=6)

    prepared = prompter.prepare(user("@video", "What happens?"), [video])

    parts = [{"type": "video", "video": video.frames}, {"type": "text", "text": "What happens?"}]
    about = VideoMetadata(total_num_frames=30, fps=10.0, duration=3.0, frames_indices=[0, 5, 10, 15, 20, 25])
    expected = own_path(
        prompter, [{"role": "user", "content": parts}], do_sample_frames=False, video_metadata=[about]
    )
    assert_same(dict(prepared.inputs), expected)
    # Six frames, two of them a second, two to a step of the grid: three steps of a second.
    assert prepared.inputs["video_grid_thw"][0, 0] == 3
    assert prepared.inputs["second_per_grid_ts"].tolist() == [1.0]
    assert prepared.counts.video > 0 == prepared.counts.image


def test_a_picture_of_three_rows_is_not_taken_for_three_channels() -> None:
    prompter = gemma3()
    wide, turned = picture(3, 200), picture(200, 3)

    prepared = prompter.prepare(user("@image", "@image", "?"), [wide, turned])

    parts = [{"type": "image", "image": Image.fromarray(image.pixels)} for image in (wide, turned)]
    expected = own_path(prompter, [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}])
    assert_same(dict(prepared.inputs), expected)


def test_read_only_pixels_are_taken() -> None:
    image = picture()
    image.pixels.flags.writeable = False

    assert gemma3().prepare(user("@image", "?"), [image]).counts.image == 4


@pytest.mark.parametrize(
    ("content", "media", "param"),
    [
        (["Listen", "@audio"], [sound()], "messages[0].content[1]"),
        (["@video", "Look"], [clip()], "messages[0].content[0]"),
    ],
)
def test_media_that_the_family_cannot_take_are_refused_with_their_place(
    content: list[str], media: list[DecodedAudio | DecodedVideo], param: str
) -> None:
    with pytest.raises(BadRequest, match=r"cannot take (audio|video): it takes image") as refused:
        gemma3().prepare(user(*content), media)

    assert (refused.value.param, refused.value.code) == (param, "unsupported_modality")


@pytest.mark.parametrize(
    ("messages", "media", "param"),
    [
        (user("@image", "?"), [], "messages[0].content[0]"),
        (user("?"), [picture()], "messages"),
        (user("@image", "?"), [clip()], "messages[0].content[0]"),
        ([], [], "messages"),
        ([{"role": "user<end_of_turn>", "content": "?"}], [], "messages[0].role"),
    ],
)
def test_messages_and_media_that_do_not_fit_are_refused(
    messages: list[dict[str, object]], media: list[DecodedImage | DecodedVideo], param: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        gemma3().prepare(messages, media)

    assert refused.value.param == param


def test_what_the_template_refuses_is_refused_in_its_words() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]

    with pytest.raises(BadRequest, match="Conversation roles must alternate"):
        gemma3().prepare(messages, [])


@needs_torchvision
def test_what_the_processor_refuses_is_the_requests_fault() -> None:
    sliver = DecodedImage(np.zeros((2, 900, 3), np.uint8), (900, 2))

    with pytest.raises(BadMedia, match="cannot take this combination"):
        qwen().prepare(user("@image", "?"), [sliver])


@pytest.mark.parametrize(
    ("family", "token"),
    [
        pytest.param(qwen, "<|image_pad|>", marks=needs_torchvision),
        pytest.param(qwen, "<|video_pad|>", marks=needs_torchvision),
        (idefics, "<image>"),
        (gemma3, "<start_of_image>"),
        (llava, "<image>"),
    ],
)
def test_text_cannot_smuggle_a_placeholder(family: Callable[..., Prompter], token: str) -> None:
    for messages, media in ((user("@image", f"a {token} b"), [picture()]), (user(f"a {token} b"), [])):
        with pytest.raises(BadRequest, match="The text contains") as refused:
            family().prepare(messages, media)

        assert token in refused.value.message


@pytest.mark.parametrize(
    ("family", "token"),
    [
        pytest.param(qwen, "<|im_end|>", marks=needs_torchvision),
        pytest.param(qwen, "<|im_start|>", marks=needs_torchvision),
        (gemma3, "<end_of_turn>"),
        (gemma3, "<bos>"),
    ],
)
def test_a_control_token_in_text_is_passed_on_as_text(family: Callable[..., Prompter], token: str) -> None:
    prompter = family()
    number = prompter._original.tokenizer.convert_tokens_to_ids(token)

    honest = prompter.prepare(user("@image", "Say ok"), [picture()]).inputs["input_ids"][0].tolist()
    sly = prompter.prepare(user("@image", f"Say {token} ok"), [picture()]).inputs["input_ids"][0].tolist()

    assert sly.count(number) == honest.count(number)
    assert f"Say {token} ok" in shown(prompter, sly)


@pytest.mark.parametrize("family", [idefics, llava])
def test_a_control_token_that_cannot_be_escaped_is_refused(family: Callable[..., Prompter]) -> None:
    token = {"idefics": "<end_of_utterance>", "llava": "<s>"}[family.__name__]

    with pytest.raises(BadRequest, match="cannot be passed on as plain text"):
        family().prepare(user("@image", f"Say {token} ok"), [picture()])


def test_two_parts_cannot_join_into_a_control_token() -> None:
    with pytest.raises(BadRequest, match="<end_of_turn>"):
        gemma3().prepare(user("Say <end_", "of_turn>", "ok"), [])


def test_a_template_that_knows_only_text_gets_the_media_in_it() -> None:
    prompter = llava(
        ChatTemplate("{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}{% endfor %} =>")
    )

    prepared = prompter.prepare(user("Look", "@image", "and tell"), [picture()])

    seen = shown(prompter, prepared.inputs["input_ids"][0].tolist())
    assert seen == "<s>[user] Look\n" + "<image>" * 16 + "\nand tell =>"
    assert prepared.counts == PromptCounts(text=prepared.num_tokens - 16, image=16)


@needs_torchvision
def test_a_template_that_passes_over_videos_gets_them_as_text() -> None:
    prompter = qwen(
        ChatTemplate(
            "{% for m in messages %}[{{ m['role'] }}]{% if m['content'] is string %}{{ m['content'] }}{% else %}"
            "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|image_pad|>"
            "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %} =>"
        )
    )

    prepared = prompter.prepare(user("Look", "@video", "@image", "and tell"), [clip(), picture()])

    seen = shown(prompter, prepared.inputs["input_ids"][0].tolist())
    assert seen.startswith("[user]Look<|video_pad|>")
    assert seen.endswith("<|image_pad|>and tell =>")
    assert prepared.counts.video > 0 < prepared.counts.image
    plain = prompter.prepare([{"role": "user", "content": "Hello"}], [])
    assert shown(prompter, plain.inputs["input_ids"][0].tolist()) == "[user]Hello =>"


def test_no_two_calls_share_a_processor_whose_tokenizer_keeps_switches() -> None:
    prompter = gemma3()

    with prompter._borrowed_processor() as one, prompter._borrowed_processor() as other:
        used = {id(each.tokenizer._tokenizer) for each in (one, other, prompter._original)}
    with prompter._borrowed_processor() as again:
        assert again in (one, other)

    assert len(used) == 3
