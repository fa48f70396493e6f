"""The kernels say what torch's attention says, and hand over what they do not take."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from workers.model.kernels import attention, library
from workers.model.kernels.attention import attention_forward
from workers.model.kernels.library import Kernels, load_kernels

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="needs a C compiler at install")


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def tensors(
    rows: int, key_heads: int, group: int, dim: int, count: int, capacity: int = 96
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A query, the first `count` columns of two slot buffers, and a mask that hides some of them."""
    generator = torch.Generator().manual_seed(rows * dim + count)
    query = torch.randn(rows, key_heads * group, 1, dim, generator=generator)
    keys, values = (torch.randn(rows, key_heads, capacity, dim, generator=generator) for _ in range(2))
    mask = torch.zeros(rows, 1, 1, capacity)
    for row in range(rows):
        mask[row, ..., 1 + row * 7 % count :] = -torch.inf
    return query, keys[:, :, :count], values[:, :, :count], mask[..., :count]


class Bidirectional(nn.Module):
    """An attention layer of a vision tower."""

    is_causal = False


def ours(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    layer: nn.Module | None = None,
) -> Tensor:
    kernels = load_kernels()
    assert kernels is not None
    return attention_forward(kernels, layer or nn.Module(), query, key, value, mask, scaling=scaling)[0]


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool = False,
) -> Tensor:
    group = query.shape[1] // key.shape[1]
    key, value = (kv.repeat_interleave(group, dim=1) for kv in (key, value))
    answer = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, is_causal=is_causal
    )
    return answer.transpose(1, 2)


def prompt(
    rows: int, key_heads: int, group: int, dim: int, tokens: int, keys: int
) -> tuple[Tensor, Tensor, Tensor]:
    """As a model's projections leave them: [rows, tokens, heads, dim], seen as [rows, heads, tokens, dim]."""
    generator = torch.Generator().manual_seed(tokens + dim)
    query = torch.randn(rows, tokens, key_heads * group, dim, generator=generator)
    both = torch.randn(2, rows, keys, key_heads, dim, generator=generator)
    return query.transpose(1, 2), both[0].transpose(1, 2), both[1].transpose(1, 2)


@pytest.mark.parametrize("dim", [8, 20, 64, 72, 80, 128])
@pytest.mark.parametrize(("rows", "key_heads", "group"), [(1, 1, 1), (2, 2, 4)])
@pytest.mark.parametrize("tokens", [2, 5, 16, 65, 130])
def test_prompts_get_the_numbers_of_torch(
    rows: int, key_heads: int, group: int, dim: int, tokens: int
) -> None:
    given = prompt(rows, key_heads, group, dim, tokens, tokens)
    seen = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None].repeat(rows, 1, 1, 1)
    seen[-1, :, 1:, 0] = False
    numbers = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)

    torch.testing.assert_close(ours(*given, None), reference(*given, None, is_causal=True))
    torch.testing.assert_close(ours(*given, None, 0.3, Bidirectional()), reference(*given, None, 0.3))
    torch.testing.assert_close(ours(*given, seen), reference(*given, seen))
    torch.testing.assert_close(ours(*given, numbers), reference(*given, numbers))
    torch.testing.assert_close(ours(*given, seen[:1]), reference(*given, seen[:1]))


def test_a_prompt_that_goes_on_from_a_cache_sees_more_keys_than_it_has_tokens() -> None:
    given = prompt(2, 2, 2, 64, 7, 40)
    seen = torch.ones(7, 40, dtype=torch.bool).tril(33)[None, None].repeat(2, 1, 1, 1)

    torch.testing.assert_close(ours(*given, seen), reference(*given, seen))


def test_a_token_that_may_see_nothing_gets_nothing() -> None:
    """As the padding in front of a shorter prompt; a number that is none would poison whoever reads it."""
    given = prompt(2, 1, 1, 64, 9, 9)
    seen = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    seen[1, :, :4] = False

    answer = ours(*given, seen)

    assert bool((answer[1, :4] == 0).all())
    torch.testing.assert_close(answer[:, 4:], reference(*given, seen)[:, 4:])


@pytest.mark.parametrize("dim", [16, 48, 64, 80, 128, 256])
@pytest.mark.parametrize(("rows", "key_heads", "group"), [(1, 1, 1), (3, 2, 4), (5, 4, 2)])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 80])
def test_it_gives_the_numbers_of_torch(rows: int, key_heads: int, group: int, dim: int, count: int) -> None:
    given = tensors(rows, key_heads, group, dim, count)

    torch.testing.assert_close(ours(*given), reference(*given))
    torch.testing.assert_close(ours(*given, scaling=0.5), reference(*given, scaling=0.5))


def test_large_scores_neither_overflow_nor_lose_the_winner() -> None:
    query, key, value, mask = tensors(2, 1, 1, 64, 40)

    torch.testing.assert_close(ours(query * 100, key, value, mask), reference(query * 100, key, value, mask))


def test_a_number_that_is_none_stays_in_its_row() -> None:
    given = tensors(3, 2, 2, 64, 20)
    given[1][1, :, 0] = torch.nan

    finite = ours(*given).isfinite().flatten(1).all(dim=1)

    assert finite.tolist() == [True, False, True]


def test_threads_divide_the_work_without_changing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tensors(5, 3, 2, 64, 70)
    alone = ours(*given)
    whole = prompt(3, 3, 2, 64, 50, 50)
    whole_alone = ours(*whole, None)
    monkeypatch.setattr(library, "_WORTH_A_THREAD", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)

    assert torch.equal(ours(*given), alone)
    assert torch.equal(ours(*whole, None), whole_alone)


def test_a_row_says_the_same_alone_and_in_a_crowd() -> None:
    query, key, value, mask = tensors(6, 2, 2, 64, 50)

    crowd = ours(query, key, value, mask)

    for row in range(6):
        alone = slice(row, row + 1)
        assert torch.equal(ours(query[alone], key[alone], value[alone], mask[alone]), crowd[alone])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda q, k, v, m: (q.double(), k.double(), v.double(), m.double()),
        lambda q, k, v, m: (q[..., :40], k[..., :40], v[..., :40], m),
        lambda q, k, v, m: (q, k, v, m.expand(-1, q.shape[1], -1, -1)),
        lambda q, k, v, m: (q, k, v, m == 0),
        lambda q, k, v, m: (q, k.transpose(2, 3).contiguous().transpose(2, 3), v, m),
        lambda q, k, v, m: (q, k[:, :, ::2], v[:, :, ::2], m[..., :15].clone()),
    ],
    ids=["precision", "odd width", "mask by head", "mask of booleans", "layout", "steps"],
)
def test_what_it_does_not_take_goes_to_torch(spoil: object) -> None:
    given = spoil(*tensors(2, 4, 1, 64, 30))  # type: ignore[operator]
    kernel_calls = []

    def kernel(*call: object) -> int:
        kernel_calls.append(call)
        return 0

    answer, _ = attention_forward(Kernels(kernel, kernel, kernel), nn.Module(), *given)

    assert kernel_calls == []
    torch.testing.assert_close(answer, reference(*given))


def test_installed_it_takes_the_place_of_sdpa() -> None:
    try:
        assert attention.install()
        assert AttentionInterface()["sdpa"] is not sdpa_attention_forward
    finally:
        AttentionInterface.register("sdpa", sdpa_attention_forward)
