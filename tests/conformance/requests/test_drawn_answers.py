"""How tokens are drawn, asked for and answered through the official client."""

from collections import defaultdict
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob
from transformers import PreTrainedTokenizerBase

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
HOT = {"temperature": 2, "max_tokens": 20, "extra_body": {"ignore_eos": True}}


def ask(client: OpenAI, **wishes: Any) -> ChatCompletion:
    return client.chat.completions.create(model="default", messages=HELLO, **wishes)


def text_of(reply: ChatCompletion, choice: int = 0) -> str:
    return reply.choices[choice].message.content or ""


def entries_of(reply: ChatCompletion, choice: int = 0) -> list[ChatCompletionTokenLogprob]:
    found = reply.choices[choice].logprobs
    assert found is not None
    assert found.content is not None
    return found.content


def ids_of(reply: ChatCompletion, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of an answer that told its logprobs."""
    ids = tokenizer.encode(text_of(reply), add_special_tokens=False)
    assert [tokenizer.decode([token]) for token in ids] == [entry.token for entry in entries_of(reply)]
    return ids


def test_n_answers_are_drawn_apart_and_the_first_is_that_of_the_seed_alone(client: OpenAI) -> None:
    three = ask(client, n=3, seed=7, **HOT)
    alone = ask(client, seed=7, **HOT)

    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert text_of(three, 0) == text_of(alone)
    assert len({text_of(three, choice) for choice in range(3)}) == 3
    assert three.usage is not None
    assert alone.usage is not None
    assert three.usage.prompt_tokens == alone.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * alone.usage.completion_tokens == 60
    assert [choice.message.content for choice in ask(client, n=3, seed=7, **HOT).choices] == [
        choice.message.content for choice in three.choices
    ]


def test_a_stream_of_n_answers_says_of_each_what_the_whole_reply_says(client: OpenAI) -> None:
    whole = ask(client, n=3, seed=11, logprobs=True, top_logprobs=1, **HOT)
    stream = client.chat.completions.create(
        model="default",
        messages=HELLO,
        n=3,
        seed=11,
        logprobs=True,
        top_logprobs=1,
        stream=True,
        stream_options={"include_usage": True},
        **HOT,
    )

    texts: dict[int, str] = defaultdict(str)
    entries: dict[int, list[ChatCompletionTokenLogprob]] = defaultdict(list)
    roles: list[int] = []
    reasons: dict[int, str] = {}
    *chunks, last = list(stream)
    for chunk in chunks:
        (choice,) = chunk.choices
        roles += [choice.index] if choice.delta.role else []
        texts[choice.index] += choice.delta.content or ""
        entries[choice.index] += (choice.logprobs and choice.logprobs.content) or []
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason

    assert sorted(roles) == [0, 1, 2]
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert entries == {index: entries_of(whole, index) for index in range(3)}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert last.choices == []
    assert last.usage is not None
    assert whole.usage is not None
    assert last.usage.completion_tokens == whole.usage.completion_tokens


def test_logprobs_tell_every_token_of_the_text_and_its_rivals(client: OpenAI) -> None:
    reply = ask(client, logprobs=True, top_logprobs=3)

    entries = entries_of(reply)
    assert "".join(entry.token for entry in entries) == text_of(reply)
    assert bytes(byte for entry in entries for byte in entry.bytes or ()).decode() == text_of(reply)
    for entry in entries:
        top = [rival.logprob for rival in entry.top_logprobs]
        assert top == sorted(top, reverse=True)
        assert len(top) == 3
        # Greedy: what was drawn is the likeliest.
        assert (entry.token, entry.logprob) == (entry.top_logprobs[0].token, top[0])
        assert entry.logprob <= 0


def test_nobody_is_told_logprobs_who_did_not_ask(client: OpenAI) -> None:
    assert ask(client, max_tokens=4).choices[0].logprobs is None


def test_a_bias_bans_a_token_or_forces_it(client: OpenAI, tokenizer: PreTrainedTokenizerBase) -> None:
    first = ids_of(ask(client, logprobs=True, max_tokens=1), tokenizer)[0]
    banned = ask(client, logprobs=True, max_tokens=1, logit_bias={str(first): -100})
    assert ids_of(banned, tokenizer) != [first]

    wanted = tokenizer.encode("red", add_special_tokens=False)[0]
    forced = ask(client, logprobs=True, max_tokens=5, logit_bias={str(wanted): 100})
    assert ids_of(forced, tokenizer) == [wanted] * 5
    # They are the model's own probabilities, before the bias.
    assert all(entry.logprob < -1 for entry in entries_of(forced)[:1])


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(
    client: OpenAI, tokenizer: PreTrainedTokenizerBase
) -> None:
    whole = ask(client, logprobs=True)
    ids = ids_of(whole, tokenizer)
    stop = ids[2]

    cut = ask(client, logprobs=True, extra_body={"stop_token_ids": [stop]})

    assert ids_of(cut, tokenizer) == ids[: ids.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_stop_string_ends_one_answer_and_its_logprobs_and_leaves_the_others(client: OpenAI) -> None:
    wishes = {"n": 3, "seed": 7, "logprobs": True, **HOT}
    whole = ask(client, **wishes)
    stop = text_of(whole, 1)[2:5]
    others = [index for index in (0, 2) if stop not in text_of(whole, index)]

    cut = ask(client, stop=stop, **wishes)

    text = text_of(whole, 1)
    assert text_of(cut, 1) == text[: text.index(stop)]
    assert others
    assert [text_of(cut, index) for index in others] == [text_of(whole, index) for index in others]
    assert cut.choices[1].finish_reason == "stop"
    told = "".join(entry.token for entry in entries_of(cut, 1))
    assert text.startswith(told)
    assert len(told) - len(entries_of(cut, 1)[-1].token) < text.index(stop) <= len(told)


@pytest.mark.parametrize(
    "penalty", [{"frequency_penalty": 1}, {"presence_penalty": 2}, {"repetition_penalty": 1.5}], ids=str
)
def test_a_penalty_makes_answers_repeat_themselves_less(
    client: OpenAI, tokenizer: PreTrainedTokenizerBase, penalty: dict[str, float]
) -> None:
    def num_kinds(**penalty: float) -> int:
        lasting = {"max_tokens": 40, "temperature": 2, "seed": 1, "n": 4}
        reply = ask(client, **lasting, extra_body={"ignore_eos": True, **penalty})
        texts = [text_of(reply, choice) for choice in range(4)]
        return sum(len(set(tokenizer.encode(text, add_special_tokens=False))) for text in texts)

    assert num_kinds(**penalty) > num_kinds()


def test_the_least_and_the_most_tokens_are_kept(client: OpenAI) -> None:
    natural = ask(client).usage
    assert natural is not None
    most = natural.completion_tokens
    longer = ask(client, max_tokens=most + 20, extra_body={"min_tokens": most + 10}).usage
    assert longer is not None
    assert most + 10 <= longer.completion_tokens <= most + 20
    assert ask(client, max_tokens=2).choices[0].finish_reason == "length"
