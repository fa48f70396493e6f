"""Template files: what loads, what is refused, and what the ones we ship render."""

import json
from pathlib import Path

import pytest
from family_processors import byte_tokenizer
from transformers import ProcessorMixin

from service.errors import BadRequest, ConfigurationError
from workers.model.prompting.chat_format import ChatFormat
from workers.model.prompting.templates import ChatTemplate, load_template

SHIPPED = Path(__file__).resolve().parents[3] / "chat_templates"


class TextProcessor(ProcessorMixin):
    """A processor with a tokenizer alone, which names the media tokens that a template may use."""

    image_token, video_token, audio_token = "<image>", "<video>", "<audio>"

    def __init__(self, tokenizer: object) -> None:
        super().__init__(tokenizer)


PROCESSOR = TextProcessor(byte_tokenizer(bos="<bos>", eos="<eos>"))
CONVERSATION = [
    {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image"}]},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
]
SYSTEM = {"role": "system", "content": "Be brief."}
RENDERED = {
    "chatml.jinja": (
        "<|im_start|>user\nLook:<image><|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "gemma.jinja": (
        "<bos><start_of_turn>user\nLook:<image><end_of_turn>\n<start_of_turn>model\nA cat.<end_of_turn>\n"
        "<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n"
    ),
    "llava.jinja": "USER: <image>\nLook: ASSISTANT: A cat. USER: Sure? ASSISTANT:",
    "mistral_small_tool_call.jinja": "<bos>[INST]Look:<image>[/INST]A cat.<eos>[INST]Sure?[/INST]",
    "vicuna.json": (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: Look:<image>\n ASSISTANT: A cat.</s> "
        "USER: Sure? ASSISTANT:"
    ),
}
WITH_SYSTEM = {
    "chatml.jinja": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "gemma.jinja": "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n",
    "llava.jinja": "Be brief. USER: Hi ASSISTANT:",
    "mistral_small_tool_call.jinja": "<bos>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]",
    "vicuna.json": "<s>Be brief. USER: Hi ASSISTANT:",
}


def test_every_shipped_template_is_tested() -> None:
    assert {path.name for path in SHIPPED.iterdir() if path.suffix != ".md"} == set(RENDERED)


@pytest.mark.parametrize("name", RENDERED)
def test_shipped_templates_write_what_their_models_were_trained_on(name: str) -> None:
    chat = ChatFormat(PROCESSOR, load_template(SHIPPED / name))

    assert chat.render(PROCESSOR, CONVERSATION) == RENDERED[name]
    assert chat.render(PROCESSOR, [SYSTEM, {"role": "user", "content": "Hi"}]) == WITH_SYSTEM[name]


@pytest.mark.parametrize("name", ["gemma.jinja", "vicuna.json"])
def test_a_misplaced_system_message_is_refused_in_the_templates_words(name: str) -> None:
    chat = ChatFormat(PROCESSOR, load_template(SHIPPED / name))

    with pytest.raises(BadRequest, match="system message must be the first"):
        chat.render(PROCESSOR, [*CONVERSATION, SYSTEM])


def test_a_json_file_sets_its_special_tokens(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    fields = {
        "chat_template": "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}{{ unk_token }}",
        "bos_token": "<b>",
        "eos_token": {"content": "</b>", "lstrip": False},
        "unk_token": None,
    }
    path.write_text(json.dumps(fields))

    chat = ChatFormat(PROCESSOR, load_template(path))

    assert chat.render(PROCESSOR, [{"role": "user", "content": "hi"}]) == "<b>hi</b>"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("t.jinja", "ok\n{% for m in messages %}\n{{ m.content }", "t.jinja has an error in line 3"),
        ("t.jinja", "one\n{% endif %}", "line 2"),
        ("t.jinja", " \n", "is empty"),
        ("t.json", '{"chat_template": "x",\n oops}', "not valid JSON: line 2, column 2"),
        ("t.json", '["x"]', "no text field 'chat_template'"),
        ("t.json", '{"chat_template": 3}', "no text field 'chat_template'"),
        ("t.json", '{"chat_template": "x", "bos_token": 3}', "'bos_token' that is not text"),
    ],
)
def test_a_broken_template_is_refused_with_its_place(
    name: str, text: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ConfigurationError) as refused:
        load_template(path)

    assert sentence in refused.value.message


def test_a_missing_or_binary_template_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "t.jinja"
    binary.write_bytes(b"\xff\xfe\x00")

    for path in (tmp_path / "none.jinja", binary):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            load_template(path)


def test_the_training_tag_of_assistant_templates_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "t.jinja"
    path.write_text(
        "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    )

    chat = ChatFormat(PROCESSOR, load_template(path))

    assert chat.render(PROCESSOR, [{"role": "user", "content": "hi"}]) == "hi"


def test_a_template_cannot_leave_the_sandbox() -> None:
    escape = "{{ messages[0]['content'] }}{% if messages | length > 1 %}{{ ''.__class__.__mro__ }}{% endif %}"
    chat = ChatFormat(PROCESSOR, ChatTemplate(escape))

    with pytest.raises(BadRequest, match="cannot render"):
        chat.render(PROCESSOR, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])


def test_a_model_without_a_template_asks_for_one() -> None:
    with pytest.raises(ConfigurationError, match="no chat template") as refused:
        ChatFormat(PROCESSOR)

    assert "--chat-template" in (refused.value.hint or "")
