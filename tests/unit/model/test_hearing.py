"""A transcription becomes a conversation with a model that hears, in words where it knows no better way."""

from collections.abc import Callable

import pytest
from family_processors import gemma3, idefics, llava

from service.contract.chat_parts import AudioPart, TextPart
from service.contract.transcriptions import TranscriptionRequest, transcription_of
from service.errors import BadRequest
from workers.desk.transcriptions import at_length, hearing
from workers.engine.protocol import Sampling
from workers.model.prompting.prompts import Prompter

WANTED = TranscriptionRequest(model="m", file="file-1", language="de", prompt="Names: Ünal.", temperature=0.5)


@pytest.mark.parametrize("family", [gemma3, idefics, llava])
def test_a_model_that_cannot_hear_is_refused_by_name(family: Callable[[], Prompter]) -> None:
    with pytest.raises(BadRequest, match="'seer' cannot hear") as refusal:
        hearing(family(), WANTED, "Write it down.", "seer")

    assert (refusal.value.param, refusal.value.code) == ("model", "unsupported_modality")


def test_the_words_carry_what_is_known_of_the_sound() -> None:
    chat = WANTED.conversation("Write it down.")

    (message,) = chat.messages
    sound, words = message.content
    assert isinstance(sound, AudioPart)
    assert sound.audio_url.url == "file-1"
    assert isinstance(words, TextPart)
    assert words.text == "Write it down. The language is 'de'. What is known of it: Names: Ünal."
    assert chat.temperature == 0.5


def test_a_model_that_was_made_for_it_gets_the_sound_alone() -> None:
    (message,) = WANTED.conversation(None).messages

    assert [type(part) for part in message.content] == [AudioPart]


def test_long_speech_has_room_for_all_of_it_as_far_as_the_model_has() -> None:
    drawn_by = [Sampling(max_tokens=1024)]

    lengths = [
        at_length(drawn_by, sound, room)[0].max_tokens
        for sound, room in ((100, 4000), (3000, 4000), (3000, 500))
    ]
    assert lengths == [1024, 3000, 500]


def test_a_text_that_had_to_end_too_soon_says_so() -> None:
    split = {"audio_tokens": 5, "text_tokens": 2}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": split}
    choice = {"message": {"content": " Guten Tag "}, "finish_reason": "length"}

    written = transcription_of({"choices": [choice], "usage": usage})
    assert (written.text, written.finish_reason, written.usage.total_tokens) == ("Guten Tag", "length", 10)
