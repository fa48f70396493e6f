"""How families are asked for a transcription: as they were taught, or in words."""

import torch
from family_checkpoints import Family
from family_conversations import ask, sound

TRANSCRIBE = 34
OF_BYTES = 40


def test_only_a_family_that_was_taught_so_ends_its_prompt_in_its_own_way(family: Family) -> None:
    prompter = family.loaded.prompter
    if family.name != "voxtral":
        assert prompter.transcription_ending("en") is None
        return

    named = [OF_BYTES + byte for byte in b"lang:en"]
    assert prompter.transcription_ending("en") == (*named, TRANSCRIBE)
    assert prompter.transcription_ending(None) == (TRANSCRIBE,)


def test_an_ending_follows_the_whole_prompt_and_is_seen_by_the_model(family: Family) -> None:
    prompter = family.loaded.prompter
    request = ask(sound(), "What is it?") if family.name == "voxtral" else ask("What is it?")
    ending = (5, 6, 7)

    bare = prompter.prepare(*request)
    ended = prompter.prepare(*request, ending=ending)

    ids = ended.inputs["input_ids"][0].tolist()
    assert ids == [*bare.inputs["input_ids"][0].tolist(), *ending]
    assert ended.counts.total == ended.num_tokens == bare.num_tokens + 3
    assert ended.inputs.keys() == bare.inputs.keys()
    for name, value in ended.inputs.items():
        assert value.dtype == bare.inputs[name].dtype
        if bare.inputs[name].shape == bare.inputs["input_ids"].shape:
            assert value.shape == ended.inputs["input_ids"].shape, name
    assert torch.all(ended.inputs["attention_mask"] == 1)
    assert ended.content is None or ended.content.num_tokens == ended.num_tokens
