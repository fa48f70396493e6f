"""data: URIs are read strictly, and nothing but a refusal comes of the rest."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.contract.media import MediaKind
from workers.media.data_uris import parse_data_uri
from workers.media.refusals import Refusal

MAX_BYTES = 1000


@given(data=st.binary(max_size=MAX_BYTES))
def test_what_was_encoded_comes_out(data):
    uri = "data:image/png;base64," + base64.b64encode(data).decode()

    assert parse_data_uri(uri, MediaKind.IMAGE, MAX_BYTES) == data


@given(rest=st.text(max_size=300), kind=st.sampled_from(MediaKind))
def test_any_other_text_is_refused_and_never_breaks(rest, kind):
    with suppress(Refusal):
        assert len(parse_data_uri("data:" + rest, kind, MAX_BYTES)) <= MAX_BYTES


@pytest.mark.parametrize(
    ("type", "kind"),
    [
        ("image/png", MediaKind.IMAGE),
        ("IMAGE/JPEG", MediaKind.IMAGE),
        ("video/mp4", MediaKind.VIDEO),
        ("image/gif", MediaKind.VIDEO),
        ("audio/wav", MediaKind.AUDIO),
        ("audio/ogg;codecs=opus", MediaKind.AUDIO),
        ("video/webm", MediaKind.AUDIO),
    ],
)
def test_a_part_takes_the_types_that_hold_its_kind(type, kind):
    assert parse_data_uri(f"data:{type};base64,AAAA", kind, MAX_BYTES) == bytes(3)


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("data:image/png;base64,AAA", "media_data_uri_invalid"),
        ("data:image/png;base64,AA==AA==", "media_data_uri_invalid"),
        ("data:image/png;base64,AAAA AAAA", "media_data_uri_invalid"),
        ("data:image/png;base64,AA-_", "media_data_uri_invalid"),
        ("data:image/png;base64,äöüß", "media_data_uri_invalid"),
        ("data:image/png,AAAA", "media_data_uri_invalid"),
        ("data:application/pdf;base64,AAAA", "media_data_uri_invalid"),
        ("data:audio/wav;base64,AAAA", "media_wrong_kind"),
        ("data:image/png;base64," + "A" * 1400, "media_too_many_bytes"),
    ],
)
def test_each_fault_has_its_code(uri, code):
    with pytest.raises(Refusal) as caught:
        parse_data_uri(uri, MediaKind.IMAGE, MAX_BYTES)

    assert caught.value.code == code
