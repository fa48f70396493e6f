"""What a request says about drawing, beside a prompt and a model of some size."""

from typing import Any

import pytest

from service.contract.chat import ChatRequest, read_chat_request
from service.errors import BadRequest, ContextTooLong
from workers.desk.sampling import DEFAULT_ANSWER_TOKENS, check_length, check_tokens, samplings


def request(**wishes: Any) -> ChatRequest:
    return read_chat_request({"messages": [{"role": "user", "content": "Hello"}], **wishes})


@pytest.mark.parametrize(
    ("wishes", "num_prompt_tokens", "param"),
    [
        ({}, 100, "messages"),
        ({}, 180, "messages"),
        ({"max_tokens": 51}, 50, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 51}, 50, "max_completion_tokens"),
        ({"min_tokens": 51}, 50, "min_tokens"),
    ],
)
def test_what_no_slot_can_hold_is_refused_with_its_field(
    wishes: dict[str, Any], num_prompt_tokens: int, param: str
) -> None:
    with pytest.raises(ContextTooLong) as refused:
        check_length(request(**wishes), num_prompt_tokens, max_context_tokens=100)
    assert refused.value.param == param


@pytest.mark.parametrize("wishes", [{}, {"max_tokens": 50}, {"max_tokens": 9, "max_completion_tokens": 50}])
def test_what_just_fits_is_taken(wishes: dict[str, Any]) -> None:
    check_length(request(**wishes), 50, max_context_tokens=100)


@pytest.mark.parametrize(
    ("wishes", "room", "num_tokens"),
    [
        ({}, 5000, DEFAULT_ANSWER_TOKENS),
        ({}, 70, 70),
        ({"min_tokens": 2000}, 5000, 2000),
        ({"max_tokens": 3}, 70, 3),
    ],
)
def test_an_answer_without_a_limit_takes_the_room_that_there_is(
    wishes: dict[str, Any], room: int, num_tokens: int
) -> None:
    (sampling,) = samplings(request(**wishes), seed=1, room=room)
    assert sampling.max_tokens == num_tokens


def test_a_seed_of_the_request_goes_before_that_of_the_job() -> None:
    assert [sampling.seed for sampling in samplings(request(seed=0), seed=9, room=10)] == [0]
    assert [sampling.seed for sampling in samplings(request(), seed=9, room=10)] == [9]


@pytest.mark.parametrize(
    ("wishes", "param"),
    [({"logit_bias": {"9": 1, "10": 1}}, "logit_bias"), ({"stop_token_ids": [9, 10]}, "stop_token_ids[1]")],
)
def test_a_token_that_the_model_does_not_have_is_refused(wishes: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_tokens(request(**wishes), vocab_size=10)
    assert refused.value.param == param
    check_tokens(request(**wishes), vocab_size=11)
