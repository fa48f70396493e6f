"""What a chat answers is what OpenAI's own client reads."""

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from service.contract.jobs import Usage
from service.contract.openai import choice_body, chunk, completion_body, usage_body, usage_chunk

USAGE = Usage(
    prompt_tokens=30,
    completion_tokens=10,
    text_tokens=4,
    image_tokens=26,
    prompt_seconds=0.5,
    completion_seconds=2.0,
)


def test_a_whole_completion_is_one_that_the_official_client_accepts():
    choice = choice_body(index=0, text="A red disc.", finish_reason="stop")
    body = completion_body(job_id=7, created=1_700_000_000, model="tiny", choices=[choice], usage=USAGE)
    completion = ChatCompletion.model_validate(body, strict=True)
    assert completion.choices[0].message.content == "A red disc."
    assert completion.usage is not None
    assert completion.usage.total_tokens == 40


def test_chunks_are_ones_that_the_official_client_accepts():
    told = {"job_id": 7, "created": 1_700_000_000, "model": "tiny"}
    first = chunk(**told, delta={"role": "assistant", "content": ""})
    last = usage_chunk(**told, usage=usage_body(USAGE))
    assert ChatCompletionChunk.model_validate(first, strict=True).choices[0].delta.role == "assistant"
    parsed = ChatCompletionChunk.model_validate(last, strict=True)
    assert parsed.choices == []
    assert parsed.usage is not None
    assert parsed.usage.prompt_tokens == 30


def test_usage_splits_the_prompt_by_modality_and_tells_the_rates():
    usage = usage_body(USAGE)
    details = usage["prompt_tokens_details"]
    assert (
        sum(details[f"{kind}_tokens"] for kind in ("text", "image", "video", "audio"))
        == usage["prompt_tokens"]
    )
    assert usage["avg_prompt_tok_per_sec"] == 60.0
    assert usage["avg_compl_tok_per_sec"] == 5.0
    assert usage["total_time_sec"] == 2.5


def test_a_reply_that_took_no_time_has_rates_of_zero():
    assert usage_body(Usage(prompt_tokens=3))["avg_tok_per_sec"] == 0.0
