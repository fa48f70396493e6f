"""What a line of a manifest may look like, and what is said about one that may not."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.chat import media_refs, parse_chat_request
from service.contract.manifest import Defaults, LineError, ManifestLine, body_of, parse_line
from service.errors import BadRequest

PLAIN = Defaults()
AT_HOME = Defaults(base_dir="/data/my set")


def openai_line(**changes: Any) -> bytes:
    line = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    }
    return orjson.dumps({**line, **changes})


def accepted(raw: bytes, defaults: Defaults = PLAIN) -> ManifestLine:
    line = parse_line(raw, 7, defaults)
    assert isinstance(line, ManifestLine), line
    return line


def refused(raw: bytes, defaults: Defaults = PLAIN) -> BadRequest:
    line = parse_line(raw, 7, defaults)
    assert isinstance(line, LineError), line
    assert line.line_no == 7
    return line.error


def test_an_openai_line_keeps_its_body_and_its_id() -> None:
    line = accepted(openai_line())

    assert line == (7, "a", "m", b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')


def test_a_short_line_becomes_a_chat_request_that_the_desk_can_read() -> None:
    raw = b'{"id": "cat", "image": "img/one cat.png", "video": "clip.mp4", "prompt": "What?", "fps": 2, "seed": 3}'
    line = accepted(raw, AT_HOME)

    request = parse_chat_request(line.body)
    assert line.custom_id == "cat"
    assert [ref.url for ref in media_refs(request)] == [
        "file:///data/my%20set/img/one%20cat.png",
        "file:///data/my%20set/clip.mp4",
    ]
    assert media_refs(request)[1].fps == 2
    assert (request.seed, request.model) == (3, "default")


def test_a_short_line_may_name_an_excerpt_of_its_clips_and_sounds() -> None:
    raw = b'{"video": "/v.mp4", "audio": "/a.wav", "image": "/i.png", "prompt": "?", "end": 4}'
    refs = media_refs(parse_chat_request(accepted(raw, Defaults.from_dict({"start": 1.5, "end": 3})).body))
    assert [(ref.start, ref.end) for ref in refs] == [(1.5, 4), (1.5, 4), (None, None)]


def test_media_keeps_the_order_of_the_line_and_precedes_the_prompt() -> None:
    body = orjson.loads(accepted(b'{"audio":"/b.wav","images":["/c.png","/a.png"],"prompt":"?"}').body)

    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["audio_url", "image_url", "image_url", "text"]
    assert parts[1]["image_url"]["url"] == "file:///c.png"


def test_a_line_may_be_a_bare_chat_body() -> None:
    line = accepted(b'{"id": "x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}')

    assert (line.custom_id, line.model) == ("x", "default")
    assert orjson.loads(line.body) == {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "model": "default",
    }


def test_a_short_line_needs_no_id() -> None:
    assert accepted(b'{"prompt": "Hi"}').custom_id is None
    assert accepted(b'{"id": 12, "prompt": "Hi"}').custom_id == "12"


def test_a_lines_own_fields_win_over_the_submissions() -> None:
    defaults = Defaults.from_dict({"model": "big", "max_tokens": 9, "prompt": "Describe.", "num_frames": 4})

    short = orjson.loads(accepted(b'{"video": "/v.mp4"}', defaults).body)
    own = orjson.loads(
        accepted(b'{"video": "/v.mp4", "prompt": "Why?", "max_completion_tokens": 2}', defaults).body
    )
    full = orjson.loads(accepted(openai_line(), defaults).body)

    assert short["messages"][0]["content"] == [
        {"type": "video_url", "video_url": {"url": "file:///v.mp4", "num_frames": 4}},
        {"type": "text", "text": "Describe."},
    ]
    assert (short["model"], short["max_tokens"]) == ("big", 9)
    assert own["messages"][0]["content"][1]["text"] == "Why?"
    assert own["max_completion_tokens"] == 2
    assert "max_tokens" not in own
    assert (full["model"], full["max_tokens"]) == ("m", 9)


def test_relative_paths_in_openai_lines_start_at_the_manifest_too() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}},
        {"type": "image_url", "image_url": "file-0123456789abcdef01234567"},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64,AA"}},
        {"type": "text", "text": "a.png"},
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}

    content = orjson.loads(accepted(openai_line(body=body), AT_HOME).body)["messages"][0]["content"]

    assert content[0]["image_url"] == {"url": "file:///data/my%20set/a.png", "detail": "low"}
    assert content[1:] == parts[1:]


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble() -> None:
    assert accepted(b'\xef\xbb\xbf{"id": "x", "prompt": "Hi"}\r\n').custom_id == "x"


def test_a_line_that_stayed_in_its_manifest_gives_the_same_body_later() -> None:
    raw = b'{"image": "a.png", "prompt": "Hi"}\n'

    assert body_of(raw, 7, AT_HOME) == accepted(raw, AT_HOME).body
    with pytest.raises(BadRequest):
        body_of(b"{", 7, AT_HOME)


@pytest.mark.parametrize(
    ("raw", "param", "code", "sentence"),
    [
        (b'{"prompt": "Hi",}', None, "invalid_json", "column 16"),
        (b"[1, 2]", None, "invalid_json", "not a JSON object"),
        (b'{"prompt": "\xff"}', None, "invalid_encoding", "byte 13"),
        (b'{"prompt": NaN}', None, "invalid_json", "column"),
        (openai_line(url="/v1/embeddings"), "url", "invalid_url", "/v1/chat/completions"),
        (openai_line(method="GET"), "method", "invalid_value", "POST"),
        (openai_line(body="x"), "body", "invalid_value", "JSON object"),
        (openai_line(body={"model": "m"}), "body.messages", "missing_required_parameter", "at least one"),
        (openai_line(body={"model": "m", "messages": []}), "body.messages", "invalid_value", "at least one"),
        (openai_line(body={"model": 3, "messages": [1]}), "body.model", "invalid_value", "name"),
        (openai_line(body={"messages": [1], "stream": True}), "body.stream", "invalid_value", "stream"),
        (openai_line(custom_id=None), "custom_id", "missing_required_parameter", "custom_id"),
        (openai_line(custom_id=""), "custom_id", "invalid_value", "1 to 512"),
        (openai_line(custom_id="a\0b"), "custom_id", "invalid_value", "1 to 512"),
        (openai_line(custom_id=3), "custom_id", "invalid_value", "text"),
        (b'{"custom_id": "a", "url": "/v1/chat/completions"}', "body", "invalid_value", "JSON object"),
        (b'{"imgae": "/a.png", "prompt": "Hi"}', "imgae", "unknown_field", "imgae"),
        (b'{"image": "/a.png"}', "prompt", "missing_required_parameter", "prompt"),
        (b'{"image": 3, "prompt": "Hi"}', "image", "invalid_value", "path"),
        (b'{"image": [], "prompt": "Hi"}', "image", "invalid_value", "path"),
        (b'{"image": "a.png", "prompt": "Hi"}', "image", "relative_path", "relative"),
        (b'{"prompt": 3}', "prompt", "invalid_value", "text"),
        (b'{"prompt": ""}', "prompt", "missing_required_parameter", "prompt"),
    ],
)
def test_a_bad_line_is_told_its_field_and_reason(
    raw: bytes, param: str | None, code: str, sentence: str
) -> None:
    error = refused(raw)

    assert (error.param, error.code) == (param, code)
    assert sentence in error.message


@pytest.mark.parametrize("depth", [300, 1000, 5000])
def test_a_tower_of_brackets_is_a_bad_line(depth: int) -> None:
    raw = b'{"messages": [' + b"[" * depth + b"]" * depth + b"]}"

    assert refused(raw).code == "invalid_json"


def test_a_misspelt_field_is_told_the_right_name() -> None:
    assert refused(b'{"imgae": "/a.png", "prompt": "Hi"}').hint == "Did you mean `image`?"


def test_a_bad_line_keeps_the_id_that_it_has() -> None:
    line = parse_line(openai_line(url="/nowhere"), 7, PLAIN)

    assert line.custom_id == "a"


@pytest.mark.parametrize("defaults", [{"max_tokens": 0}, {"colour": "red"}, {"fps": "fast"}, {"prompt": 3}])
def test_wrong_defaults_are_refused_when_they_are_given(defaults: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        Defaults.from_dict(defaults)
    assert str(refusal.value.param).startswith("defaults")


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_line_whatever_breaks_the_reader(raw: bytes) -> None:
    assert parse_line(raw, 1, AT_HOME).line_no == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["id", "custom_id", "url", "method", "body", "messages", "image", "images", "prompt", "model", "fps"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=6))
def test_no_object_whatever_breaks_the_reader(line: dict[str, Any]) -> None:
    assert parse_line(orjson.dumps(line), 1, AT_HOME).line_no == 1
