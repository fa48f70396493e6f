"""Media that nobody had in mind: a family prepares them or refuses them, and says so in a sentence."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from family_checkpoints import Family
from family_conversations import ask, clip, picture, sound

from service.contract.media import MediaKind
from service.errors import BadMedia, BadRequest
from workers.media.decoded import Decoded

ODD_MEDIA: dict[MediaKind, list[Decoded]] = {
    MediaKind.IMAGE: [picture(1, 1), picture(3, 3), picture(1, 300), picture(600, 20), picture(400, 400)],
    MediaKind.VIDEO: [clip(3, 30, 40), clip(5, 4, 4), clip(2, 10, 300)],
    MediaKind.AUDIO: [sound(0.05), sound(1.999)],
}


def test_pictures_and_clips_of_odd_sizes_are_prepared_or_refused(family: Family) -> None:
    for kind in family.checkpoint.takes:
        for medium in ODD_MEDIA[kind]:
            # Anything else that it raised would be taken for our own fault.
            with suppress(BadRequest):
                prepared = family.loaded.prompter.prepare(*ask(medium, "What?"))
                assert getattr(prepared.counts, kind.value) > 0


def test_a_clip_of_one_frame_is_still_a_clip(family: Family) -> None:
    if MediaKind.VIDEO not in family.checkpoint.takes:
        return

    still = family.loaded.prompter.prepare(*ask(clip(num_frames=1), "What is it?"))

    assert still.counts.video > 0


def test_a_click_is_too_short_a_sound(family: Family) -> None:
    if MediaKind.AUDIO not in family.checkpoint.takes:
        return

    with pytest.raises(BadMedia, match=r"at least 0\.05 seconds"):
        family.loaded.prompter.prepare(*ask(sound(0.01), "What?"))


def test_a_family_that_shows_clips_as_pictures_takes_one_kind_at_a_time(
    family_of: Callable[[str], Family],
) -> None:
    prompter = family_of("smolvlm").loaded.prompter

    with pytest.raises(BadRequest, match="not both") as refused:
        prompter.prepare(*ask(picture(), clip(), "Which is longer?"))

    assert refused.value.code == "unsupported_modality"
