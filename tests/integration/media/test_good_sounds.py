"""Sounds of every container come out as one clear tone, mono, at the model's rate."""

import io

import av
import numpy as np
import pytest
from media_samples import TONE_HZ, clip, loudest_hertz, tone, tone_samples, wav

from service.contract.media import MediaKind, MediaNeeds
from service.errors import BadMedia

AUDIO = MediaKind.AUDIO

SOUNDS = {
    "wav": ("pcm_s16le", "wav", 44_100, "mono"),
    "24-bit wav": ("pcm_s24le", "wav", 48_000, "stereo"),
    "float wav": ("pcm_f32le", "wav", 16_000, "mono"),
    "8-bit wav": ("pcm_u8", "wav", 8_000, "mono"),
    "telephone wav": ("pcm_mulaw", "wav", 8_000, "mono"),
    "mp3": ("libmp3lame", "mp3", 44_100, "stereo"),
    "flac": ("flac", "flac", 96_000, "stereo"),
    "opus in ogg": ("libopus", "ogg", 48_000, "stereo"),
    "opus in webm": ("libopus", "webm", 48_000, "mono"),
    "m4a": ("aac", "mp4", 44_100, "stereo"),
    "aac": ("aac", "adts", 22_050, "mono"),
    "surround in mkv": ("aac", "matroska", 48_000, "5.1"),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_keeps_its_tone(name, load):
    codec, format, rate, layout = SOUNDS[name]

    decoded = load(AUDIO, tone(codec, format, seconds=1.0, rate=rate, layout=layout))

    assert decoded.rate == 16_000
    assert decoded.samples.dtype == np.float32
    assert decoded.samples.flags.writeable
    # Some encoders pad the end; none may lose a part of it.
    assert 0.99 <= decoded.seconds <= 1.15
    assert loudest_hertz(decoded.samples, decoded.rate) == pytest.approx(TONE_HZ, abs=2)
    assert np.abs(decoded.samples).max() < 1.0
    assert decoded.num_bytes == decoded.samples.nbytes


def test_vorbis_keeps_its_tone(load):
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("vorbis", rate=44_100, layout="stereo", options={"strict": "-2"})
        frame = av.AudioFrame.from_ndarray(
            np.stack([tone_samples(1.0, 44_100)] * 2), format="fltp", layout="stereo"
        )
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    decoded = load(AUDIO, file.getvalue())

    assert loudest_hertz(decoded.samples, 16_000) == pytest.approx(TONE_HZ, abs=2)


def test_samples_at_the_models_rate_come_through_unchanged(load):
    noise = np.random.default_rng(0).integers(-32_000, 32_000, 16_000, np.int16)

    decoded = load(AUDIO, wav(noise))

    np.testing.assert_allclose(decoded.samples, noise / 32_768, atol=1e-6)


def test_the_model_chooses_the_rate(load):
    needs = MediaNeeds(takes=frozenset({AUDIO}), audio_rate=24_000)

    assert load(AUDIO, tone("flac", "flac"), needs).samples.shape == (24_000,)


def test_both_ears_are_heard(load):
    left, right = tone_samples(1.0, 16_000), np.zeros(16_000, np.float32)

    decoded = load(AUDIO, wav(np.stack([left, right], axis=1), channels=2))

    assert np.abs(decoded.samples).max() == pytest.approx(0.15, abs=0.07)


def test_the_sound_of_a_video_is_a_sound(load):
    decoded = load(AUDIO, clip(num_frames=12, fps=12, sound=True))

    assert loudest_hertz(decoded.samples, 16_000) == pytest.approx(TONE_HZ, abs=2)


def test_the_longest_and_the_shortest_allowed_sounds_pass(load):
    needs = MediaNeeds(takes=frozenset({AUDIO}), max_audio_seconds=2.0)

    assert load(AUDIO, wav(np.zeros(32_000, np.int16)), needs).seconds == 2.0
    assert load(AUDIO, wav(np.zeros(400, np.int16)), needs).seconds == 0.025


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus in webm"])
def test_an_excerpt_of_a_sound_lasts_from_its_start_to_its_end(name, load):
    codec, format, rate, layout = SOUNDS[name]
    decoded = load(AUDIO, tone(codec, format, seconds=1.0, rate=rate, layout=layout), start=0.25, end=0.75)
    assert decoded.seconds == pytest.approx(0.5, abs=0.001)
    assert loudest_hertz(decoded.samples, decoded.rate) == pytest.approx(TONE_HZ, abs=2)


def test_an_excerpt_holds_the_very_samples_that_lie_there(load):
    ramp = np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)
    whole = load(AUDIO, wav((ramp * 32767).astype(np.int16)))
    part = load(AUDIO, wav((ramp * 32767).astype(np.int16)), start=0.3, end=0.6)
    assert np.array_equal(part.samples, whole.samples[4800:9600])


def test_a_long_sound_may_be_heard_in_parts(load):
    long = wav(np.zeros(16_000 * 40, np.int16))
    with pytest.raises(BadMedia, match="longer than"):
        load(AUDIO, long)
    assert load(AUDIO, long, start=35.0).seconds == pytest.approx(5.0)
    assert load(AUDIO, long, start=39.0, end=90.0).seconds == pytest.approx(1.0)


def test_an_excerpt_that_begins_after_the_sound_is_refused_with_its_length(load):
    for start in (1.0, 5.0):
        with pytest.raises(BadMedia, match="1 seconds long") as refused:
            load(AUDIO, wav(np.zeros(16_000, np.int16)), start=start)
        assert refused.value.code == "media_start_beyond_end"
