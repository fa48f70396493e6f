"""What two prompts share: tokens of one scope, and media that are the same to the last byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.model.prompting.content import BLOCK, Content, content_of, media_digest

IMAGE = 99
PIXELS = np.arange(12, dtype=np.float32).reshape(3, 4)


def prompt(tokens: list[int], media: np.ndarray | None = None, scope: str = "ours") -> Content:
    arrays = [] if media is None else [("pixels", media)]
    content = content_of(
        np.array(tokens, dtype=np.int64), placeholders={IMAGE}, media=media_digest(arrays), scope=scope
    )
    assert content is not None
    return content


def test_prompts_share_what_both_begin_with() -> None:
    assert prompt([1, 2, 3, 4]).shared_tokens(prompt([1, 2, 5, 4])) == 2
    assert prompt([1, 2, 3, 4]).shared_tokens(prompt([1, 2])) == 2
    assert prompt([1]).shared_tokens(prompt([2])) == 0


def test_the_same_words_under_other_media_are_shared_only_before_the_media() -> None:
    ours, other = prompt([1, 2, IMAGE, IMAGE, 3], PIXELS), prompt([1, 2, IMAGE, IMAGE, 3], PIXELS + 1)

    assert ours.shared_tokens(other) == 2
    assert ours.shared_tokens(prompt([1, 2, IMAGE, IMAGE, 4], PIXELS)) == 4


def test_nothing_is_shared_with_another_scope() -> None:
    tokens = list(range(2 * BLOCK))
    ours, theirs = prompt(tokens), prompt(tokens, scope="theirs")

    assert ours.shared_tokens(theirs) == 0
    assert not set(ours.chain) & set(theirs.chain)


def test_links_agree_as_far_as_the_prompts_do() -> None:
    tokens = list(range(1, 3 * BLOCK + 5))
    changed = [*tokens]
    changed[2 * BLOCK] = 0

    ours, other = prompt(tokens), prompt(changed)

    assert len(ours.chain) == 3
    assert ours.chain[:2] == other.chain[:2]
    assert ours.chain[2] != other.chain[2]


def test_media_change_the_links_from_their_first_token_on() -> None:
    tokens = [1] * BLOCK + [IMAGE] + [2] * (2 * BLOCK - 1)

    ours, other = prompt(tokens, PIXELS), prompt(tokens, PIXELS + 1)

    assert ours.chain[0] == other.chain[0]
    assert not set(ours.chain[1:]) & set(other.chain[1:])


@given(st.lists(st.integers(0, 3), max_size=70), st.lists(st.integers(0, 3), max_size=70))
def test_equal_links_mean_equal_beginnings(first: list[int], second: list[int]) -> None:
    ours, other = prompt(first), prompt(second)
    shared = ours.shared_tokens(other)
    agreeing = sum(one == two for one, two in zip(ours.chain, other.chain, strict=False))

    assert agreeing == shared // BLOCK
    assert first[:shared] == second[:shared]


def test_media_nobody_can_find_among_the_tokens_forbid_sharing() -> None:
    tokens = np.array([1, 2, 3])

    assert content_of(tokens, placeholders={IMAGE}, media=b"some", scope="") is None
    assert content_of(np.array([1, IMAGE]), placeholders={IMAGE}, media=b"", scope="") is None


@pytest.mark.parametrize(
    "other",
    [
        [("pixels", PIXELS.reshape(4, 3))],
        [("pixels", PIXELS.astype(np.float64))],
        [("grid", PIXELS)],
        [("pixels", PIXELS), ("pixels", PIXELS)],
        [],
    ],
)
def test_media_are_the_same_only_with_names_shapes_and_kinds(other: list[tuple[str, np.ndarray]]) -> None:
    assert media_digest(other) != media_digest([("pixels", PIXELS)])


def test_where_media_lie_in_memory_does_not_matter() -> None:
    assert media_digest([("pixels", PIXELS.T.copy().T)]) == media_digest([("pixels", PIXELS)])


def test_what_is_kept_of_a_prompt_does_not_keep_the_memory_it_came_in() -> None:
    """Prompts are prepared in other processes and arrive in one memory file with their pixels."""
    whole = prompt([1, 2, IMAGE, 3], PIXELS)

    kept = whole.owned()

    assert not np.shares_memory(kept.tokens, whole.tokens)
    assert kept.shared_tokens(whole) == 4


@pytest.mark.parametrize(("num_tokens", "media"), [(2, False), (5, True)])
def test_a_beginning_is_a_prompt_of_its_own(num_tokens: int, media: bool) -> None:
    whole = prompt([1, 2, IMAGE, 3, 4, 5], PIXELS)

    beginning = whole.beginning(num_tokens)

    wanted = prompt([1, 2, IMAGE, 3, 4, 5][:num_tokens], PIXELS if media else None)
    assert beginning.shared_tokens(wanted) == num_tokens == beginning.num_tokens
    assert (beginning.media_start, beginning.media_stop) == (wanted.media_start, wanted.media_stop)
    assert beginning.chain == wanted.chain
