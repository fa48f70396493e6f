"""Synthetic sounds: tones of every pitch, sweeps, beeps, sirens, noise and silence, at 16 kHz."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.training import wordings
from models.training.questions import NUMBERS, Question, number_of, sentence
from models.training.scenes import NARROW, Reach, pick

SAMPLE_RATE = 16_000
LONGEST = 52_224  # samples: what every audio batch is padded to, 3.3 s
# Hz. The classes touch: no pitch is without a name. Graded sounds keep a margin from the borders.
PITCHES: Mapping[str, tuple[float, float]] = {
    "low": (60.0, 350.0),
    "medium": (350.0, 1400.0),
    "high": (1400.0, 6500.0),
}
KINDS = ("tone", "sweep", "beeps", "noise", "siren", "silence")
CHANCES = (0.22, 0.18, 0.36, 0.08, 0.1, 0.06)


@dataclass(frozen=True)
class Sound:
    """A sound. samples: float32 at 16 kHz, within -1 and 1."""

    samples: np.ndarray
    kind: str
    num_beeps: int
    answer: str
    highest_hz: float


@dataclass(frozen=True)
class Dry:
    """A sound before it gets its level and its room. samples: float64, of about unit size."""

    samples: np.ndarray
    answer: str
    highest_hz: float = 0.0
    num_beeps: int = 0


def compose_sound(
    rng: np.random.Generator, reach: Reach, kind: str | None = None, margin: float = 0.0
) -> Sound:
    """One sound; `margin` keeps its pitch that fraction away from the borders between the classes."""
    kind = kind or str(rng.choice(KINDS, p=CHANCES))
    easiest = reach is NARROW
    seconds = float(rng.uniform(0.9, 1.9) if easiest else rng.uniform(0.6, 2.3))
    dry = _MAKERS[kind](rng, int(seconds * SAMPLE_RATE), margin)
    samples = _in_a_room(rng, dry.samples, kind, easiest)
    return Sound(samples.astype(np.float32), kind, dry.num_beeps, dry.answer, dry.highest_hz)


def _in_a_room(rng: np.random.Generator, dry: np.ndarray, kind: str, easiest: bool) -> np.ndarray:
    """Give the sound its level (0 to -42 dB of full scale) and a noise floor well or barely below it."""
    if kind == "silence":
        floor = 0.0 if rng.random() < 0.2 else 10 ** rng.uniform(-5.5, -3.2)
        return rng.normal(0, 1, len(dry)) * floor
    gain = 10 ** (rng.uniform(-0.8, -0.1) if easiest else rng.uniform(-2.1, -0.05))
    if kind == "noise":
        return np.clip(dry * max(gain, 0.01), -1, 1)
    loud_room = not easiest and rng.random() < 0.3
    floor = gain * 10 ** (rng.uniform(-1.3, -0.35) if loud_room else rng.uniform(-3.5, -1.3))
    return np.clip(dry * gain + rng.normal(0, floor, len(dry)), -1, 1)


def pitch(rng: np.random.Generator, name: str, margin: float) -> float:
    """A frequency of this class in Hz, evenly spread over its octaves."""
    low, high = PITCHES[name]
    return float(np.exp(rng.uniform(np.log(low * (1 + margin)), np.log(high / (1 + margin)))))


def tone_of(rng: np.random.Generator, hz: np.ndarray | float, num_samples: int) -> np.ndarray:
    """A tone of this frequency (constant or per sample): pure, with harmonics, or a raw wave; faded in and out."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, (num_samples,))) / SAMPLE_RATE + rng.uniform(
        0, 2 * np.pi
    )
    highest = float(np.max(hz))
    sound = np.sin(phase)
    u = rng.random()
    if u < 0.2:
        saw = phase / np.pi % 2 - 1
        sound = (np.sign(sound), saw, 2 * np.abs(saw) - 1)[int(rng.integers(3))]
    elif u < 0.7:
        steepness, odd = rng.uniform(0.9, 3), rng.random() < 0.3
        brightness = rng.uniform(0.3, 1)
        for n in range(2, 8):
            if n * highest < 0.45 * SAMPLE_RATE and not (odd and n % 2 == 0):
                sound = sound + brightness * n**-steepness * np.sin(n * phase + rng.uniform(0, 2 * np.pi))
        sound /= np.abs(sound).max() + 1e-9
    return faded(sound)


def faded(sound: np.ndarray, milliseconds: float = 8.0) -> np.ndarray:
    """The sound with its ends brought to zero, so that they do not click."""
    count = min(max(2, int(SAMPLE_RATE * milliseconds / 1000)), len(sound) // 2)
    envelope = np.ones(len(sound))
    envelope[:count] = np.linspace(0, 1, count)
    envelope[-count:] = np.linspace(1, 0, count)
    return sound * envelope


def _tone(rng: np.random.Generator, num_samples: int, margin: float) -> Dry:
    name = pick(rng, tuple(PITCHES))
    hz = pitch(rng, name, margin)
    sound = tone_of(rng, hz, num_samples)
    if rng.random() < 0.15:
        sound = sound * np.linspace(1, rng.uniform(0.3, 1), num_samples)
    return Dry(sound, f"A steady {name} tone.", hz)


def _sweep(rng: np.random.Generator, num_samples: int, margin: float) -> Dry:
    ratio = rng.uniform(1.9, 5)
    low = float(np.exp(rng.uniform(np.log(110), np.log(min(1500, 6400 / ratio)))))
    start, end = (low, low * ratio) if rng.random() < 0.5 else (low * ratio, low)
    time = np.linspace(0, 1, num_samples)
    hz = start * (end / start) ** time if rng.random() < 0.6 else start + (end - start) * time
    answer = "A rising tone." if end > start else "A falling tone."
    return Dry(tone_of(rng, hz, num_samples), answer, low * ratio)


def _noise(rng: np.random.Generator, num_samples: int, margin: float) -> Dry:
    return Dry(faded(rng.normal(0, 0.4, num_samples)), "White noise.", SAMPLE_RATE / 2)


def _silence(rng: np.random.Generator, num_samples: int, margin: float) -> Dry:
    return Dry(np.zeros(num_samples), "Silence.")


def _siren(rng: np.random.Generator, num_samples: int, margin: float) -> Dry:
    center, depth = rng.uniform(450, 1500), rng.uniform(0.2, 0.42)
    turns = max(rng.uniform(1.6, 4.2) * num_samples / SAMPLE_RATE, 2.0)
    wave = np.sin(2 * np.pi * turns * np.arange(num_samples) / num_samples + rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.25:
        wave = np.sign(wave)
    hz = center * (1 + depth * wave)
    return Dry(tone_of(rng, hz, num_samples), "A siren.", float(hz.max()))


def _beeps(rng: np.random.Generator, num_samples: int, margin: float) -> Dry:
    count = int(rng.integers(1, 6))
    name = pick(rng, tuple(PITCHES))
    hz = pitch(rng, name, margin)
    beep, gap = rng.uniform(0.08, 0.17), rng.uniform(0.13, 0.28)
    parts = [np.zeros(int(SAMPLE_RATE * rng.uniform(0.03, 0.25)))]
    for _ in range(count):
        parts += [tone_of(rng, hz, int(SAMPLE_RATE * beep)), np.zeros(int(SAMPLE_RATE * gap))]
    parts.append(np.zeros(max(0, num_samples - sum(map(len, parts)))))
    answer = sentence(f"{NUMBERS[count]} {name} beep{'s' if count > 1 else ''}.")
    return Dry(np.concatenate(parts), answer, hz, count)


_MAKERS = {
    "tone": _tone,
    "sweep": _sweep,
    "beeps": _beeps,
    "noise": _noise,
    "siren": _siren,
    "silence": _silence,
}


def recorded(rng: np.random.Generator, sound: Sound, reach: Reach) -> np.ndarray:
    """The sound as a recording may carry it: low-passed by a codec, padded, coarsely quantized. float32."""
    samples = sound.samples
    if rng.random() < 0.4:
        samples = low_passed(samples, max(rng.uniform(3800, 7800), 1.15 * sound.highest_hz))
    if rng.random() < 0.3:
        samples = np.concatenate([np.zeros(int(SAMPLE_RATE * rng.uniform(0, 0.12)), np.float32), samples])
    if reach is not NARROW and rng.random() < 0.4:
        samples = np.concatenate([_pause(rng), samples, _pause(rng)])
    if rng.random() < 0.2 and sound.kind != "silence":
        steps = max(1 << int(rng.integers(7, 15)), 2048)
        samples = (np.round(samples * steps) / steps).astype(np.float32)
    return samples[:LONGEST].astype(np.float32)


def _pause(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 10 ** rng.uniform(-5.5, -3.5), int(SAMPLE_RATE * rng.uniform(0, 0.5))).astype(
        np.float32
    )


def low_passed(samples: np.ndarray, hz: float) -> np.ndarray:
    """A cheap stand-in for a lower sample rate or a lossy codec."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE) > hz] *= 0.01
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def sound_questions(rng: np.random.Generator, sound: Sound, count: int) -> list[Question]:
    """`count` questions about the sound, its description first."""
    asked: list[Question] = []
    while len(asked) < count:
        if asked and rng.random() < (0.7 if sound.num_beeps else 0.2):
            question = wordings.ask(rng, wordings.BEEPS)
            asked.append(Question("audio beep count", question, number_of("beep", sound.num_beeps)))
        else:
            question = wordings.caption_request(rng, "audio")
            asked.append(Question(f"audio {sound.kind}", question, sound.answer))
    return asked
