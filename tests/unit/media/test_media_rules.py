"""The rules that need no file: sampling, sizes, wishes and sentences."""

import re
import string
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workers.media
from service.contract.media import MediaKind, MediaNeeds, MediaRef
from service.errors import BadRequest, MediaUnavailable, Unavailable
from workers.media.images import check_sides, fit
from workers.media.limits import MediaLimits
from workers.media.refusals import RULES, Refusal
from workers.media.videos import sample_indices
from workers.media.wire import DecodeRequest

NEEDS = MediaNeeds(takes=frozenset(MediaKind), num_frames=32, max_pixels=1000)


@given(num_frames=st.integers(1, 10_000), count=st.integers(1, 100))
def test_sampled_frames_are_distinct_in_order_and_evenly_spread(num_frames, count):
    indices = sample_indices(num_frames, count)

    assert len(indices) == min(num_frames, count)
    assert indices[0] == 0
    assert all(0 <= index < num_frames for index in indices)
    gaps = {later - earlier for earlier, later in pairwise(indices)}
    assert all(gap >= 1 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(width=st.integers(8, 20_000), height=st.integers(8, 20_000), most=st.integers(64, 10**8))
def test_a_fitted_size_keeps_its_shape_and_its_bound(width, height, most):
    fitted_width, fitted_height = fit(width, height, most, 8)

    assert fitted_width <= width
    assert fitted_height <= height
    if fitted_width > 8 and fitted_height > 8:
        assert fitted_width * fitted_height <= most
        assert abs(fitted_width * height - fitted_height * width) <= max(width, height)


@pytest.mark.parametrize(("size", "code"), [((7, 100), "media_too_small"), ((10, 1001), "media_aspect")])
def test_specks_and_threads_are_refused_either_way_up(size, code):
    for width, height in (size, size[::-1]):
        with pytest.raises(Refusal) as caught:
            check_sides(width, height, MediaLimits())
        assert caught.value.code == code


def test_the_smaller_of_two_wishes_wins():
    modest = MediaRef(MediaKind.VIDEO, "x", "p", max_pixels=10)
    greedy = MediaRef(MediaKind.VIDEO, "x", "p", max_pixels=10**6, num_frames=64)

    assert DecodeRequest.of(modest, NEEDS, MediaLimits()).max_pixels == 10
    request = DecodeRequest.of(greedy, NEEDS, MediaLimits())
    assert (request.max_pixels, request.max_frames) == (1000, 32)


@pytest.mark.parametrize(("name", "most"), [("max_pixels", 5000), ("num_frames", 16)])
def test_a_wish_beyond_what_the_operator_allows_is_refused_with_the_limit(name, most):
    limits = MediaLimits(max_pixels=5000, max_frames=16)
    assert DecodeRequest.of(MediaRef(MediaKind.VIDEO, "x", "p", **{name: most}), NEEDS, limits)
    with pytest.raises(BadRequest, match=f"at most {most}") as refused:
        DecodeRequest.of(MediaRef(MediaKind.VIDEO, "x", "p", **{name: most + 1}), NEEDS, limits)
    assert refused.value.param == f"p.{name}"


def test_what_nobody_asked_for_stays_within_what_the_operator_allows():
    limits = MediaLimits(max_pixels=500, max_frames=16, max_audio_seconds=7)
    request = DecodeRequest.of(MediaRef(MediaKind.VIDEO, "x", "p"), NEEDS, limits)
    assert (request.max_pixels, request.max_frames, request.max_audio_seconds) == (500, 16, 7)


def test_a_request_reads_back_as_it_was_written():
    request = DecodeRequest.of(MediaRef(MediaKind.VIDEO, "x", "p", fps=2.5), NEEDS, MediaLimits())

    assert DecodeRequest.from_bytes(request.as_bytes()) == request


@pytest.mark.parametrize("code", RULES)
def test_every_code_has_a_sentence_and_a_next_step(code):
    names = [name for _, name, _, _ in string.Formatter().parse(RULES[code].message) if name]

    error = Refusal(code, **dict.fromkeys(names, 3)).as_error("messages[0]")

    assert error.code == code
    assert error.param == "messages[0]"
    assert error.message.endswith(".")
    assert "{" not in error.message
    assert error.hint
    assert error.hint.endswith(".")
    assert error.retryable == isinstance(error, Unavailable)


def test_every_code_that_the_room_raises_has_a_rule_and_every_rule_is_raised():
    sources = "\n".join(path.read_text() for path in Path(workers.media.__path__[0]).glob("*.py"))
    used = set(re.findall(r'"((?:media|image|video|audio)_[a-z_]+)"', sources.replace("RULES: Mapping", "")))
    raised = set(re.findall(r'(?:Refusal\(|"refused": |else )\s*"([a-z_]+)"', sources))
    raised |= {"media_decoder_unavailable", "media_decode_crashed"}

    assert raised <= set(RULES) <= used


def test_what_cannot_be_reached_is_told_apart_from_what_is_broken():
    for code in (
        "media_files_disabled",
        "media_forbidden",
        "media_symlink",
        "media_not_a_file",
        "media_unavailable",
    ):
        assert RULES[code].error is MediaUnavailable
