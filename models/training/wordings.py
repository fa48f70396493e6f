"""How people ask about media: fixed questions, templates, careless spelling, and words that mean nothing here.

Any words beside media that ask nothing else mean "describe it".
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.training.scenes import pick

NOUNS = {
    "image": ("image", "picture", "photo", "drawing", "scene", "photograph", "graphic"),
    "video": ("video", "clip", "animation", "movie", "footage", "recording", "gif", "film"),
    "audio": ("audio", "sound", "recording", "clip", "audio file", "noise", "track"),
    "pair": ("images", "pictures", "photos"),
}
THINGS = ("this", "it", "what you see", "the content", "the file", "the attachment", "what is there")
REQUESTS = (
    "Describe {}.",
    "Caption {}.",
    "Explain {}.",
    "Summarize {}.",
    "Analyze {}.",
    "Tell me about {}.",
    "Write a caption for {}.",
    "Give a description of {}.",
    "Give me a short summary of {}.",
    "What is {}?",
    "Describe {} in one sentence.",
    "Describe {} in detail.",
    "Please describe {}.",
    "Can you describe {}?",
    "Could you describe {} for me?",
    "I would like a caption of {}.",
    "Write one sentence about {}.",
)
CAPTION = {
    "image": (
        "Describe this image.",
        "What is shown in this image?",
        "What is in this picture?",
        "What is in this image?",
        "What's in this image?",
        "What do you see?",
        "Caption this image.",
        "Caption this.",
        "What does this image show?",
        "What can you see in this picture?",
        "What does the picture show?",
        "Describe the image.",
        "What is this?",
        "What's this?",
        "What do you see in this photo?",
        "Tell me what you see.",
        "Tell me what is in the picture.",
        "What is on the image?",
    ),
    "video": (
        "Describe this video.",
        "What happens in this video?",
        "What happens in this clip?",
        "What happens?",
        "What is happening?",
        "What's happening here?",
        "What is shown in this video?",
        "Summarize this clip.",
        "Describe the video.",
        "What does this video show?",
        "What do you see?",
        "Caption this video.",
        "What is going on in this video?",
        "Tell me what happens.",
        "Describe the action.",
        "Describe the motion in the video.",
        "What is this video about?",
        "Describe what happens in the clip.",
    ),
    "audio": (
        "What do you hear?",
        "Describe this audio.",
        "Describe this sound.",
        "Describe the sound.",
        "What is this sound?",
        "What sound is this?",
        "What can you hear?",
        "What kind of sound is this?",
        "What is in this recording?",
        "What do you hear in this clip?",
        "Listen and describe.",
        "Which sound is this?",
        "Transcribe this audio.",
        "Tell me what you hear.",
        "What does this sound like?",
        "What is being played?",
        "Classify this sound.",
    ),
    "pair": (
        "Describe the images.",
        "Describe these images.",
        "What do you see?",
        "What is shown in these images?",
        "Describe both images.",
        "What is in these pictures?",
    ),
    "mixed": (
        "Describe what you hear and see.",
        "Describe what you see and hear.",
        "What do you see and hear?",
        "What do you hear and see?",
        "Describe both.",
        "Describe the image and the sound.",
        "Describe the image and the audio.",
        "What is in the image and what do you hear?",
        "Describe everything.",
        "Describe this.",
        "Describe all of it.",
        "What is in the picture and in the sound?",
        "Tell me about the image and the sound.",
    ),
}
COUNT = (
    "How many shapes are there?",
    "How many shapes?",
    "Count the shapes.",
    "How many shapes do you see?",
    "How many shapes are in the image?",
    "How many objects are there?",
    "What is the number of shapes?",
    "How many things are in the picture?",
)
BACKGROUND = (
    "What color is the background?",
    "What is the background color?",
    "Which color is the background?",
    "What is the color of the background?",
    "Background color?",
    "What colour is the background?",
)
COLOR = (
    "What color is the {}?",
    "What is the color of the {}?",
    "Which color does the {} have?",
    "What color does the {} have?",
    "Which color is the {}?",
    "What colour is the {}?",
)
COLOR_OF_ONE = ("What color is the shape?", "What color is it?", "Which color is the shape?")
SHAPE = (
    "What shape is {}?",
    "Which shape is {}?",
    "What shape is the {} one?",
    "What is the {} shape?",
    "What kind of shape is {}?",
    "What is the shape of the {} object?",
)
SHAPE_OF_ONE = ("What shape is this?", "Which shape is this?", "What shape is it?")
WHERE = (
    "Where is the {}?",
    "Where is the {} located?",
    "What is the position of the {}?",
    "In which part of the image is the {}?",
    "Where can I find the {}?",
)
WHERE_OF_ONE = ("Where is the shape?", "Where is it?")
EXISTS = (
    "Is there {}?",
    "Is there {} in the image?",
    "Do you see {}?",
    "Can you see {}?",
    "Does the image show {}?",
    "Does the picture contain {}?",
)
KIND_COUNT = (
    "How many {} are there?",
    "How many {}?",
    "Count the {}.",
    "How many {} do you see?",
    "What is the number of {}?",
    "How many {} are in the image?",
)
SAME = (
    "Are the two images the same?",
    "Are the images identical?",
    "Are they the same?",
    "Are both images equal?",
    "Is it the same picture twice?",
)
FIRST = (
    "Describe the first image.",
    "What is in the first image?",
    "What does the first image show?",
    "Describe image one.",
)
SECOND = (
    "Describe the second image.",
    "What is in the second image?",
    "What does the second image show?",
    "Describe image two.",
)
CHANGE = (
    "What changed between the two images?",
    "What changed?",
    "What is the difference between the two images?",
    "What is the difference?",
    "What is different?",
    "Compare the two images.",
    "Describe the change.",
    "Find the difference.",
    "How do the images differ?",
    "What happened between the images?",
    "Compare these pictures.",
)
MOVE = (
    "Which way does it move?",
    "In which direction does the shape move?",
    "What does the {} do?",
    "How does the {} move?",
    "What does the shape do?",
    "Where does it go?",
    "What is the {} doing?",
    "What is the direction?",
    "Does the {} move?",
)
BEEPS = (
    "How many beeps are there?",
    "How many beeps?",
    "Count the beeps.",
    "How many beeps do you hear?",
    "What is the number of beeps?",
    "How many times does it beep?",
)
ONLY_IMAGE = (
    "Describe the image.",
    "Describe this image.",
    "What is in the picture?",
    "What do you see?",
    "What is shown in this image?",
    "Caption the image.",
    "What can you see?",
)
ONLY_AUDIO = (
    "What do you hear?",
    "Describe the sound.",
    "Describe the audio.",
    "What can you hear?",
    "What sound is this?",
    "What is in the recording?",
    "Caption the audio.",
)
SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful assistant that describes media.",
    "Answer briefly.",
    "You are an AI model. Answer the question of the user.",
    "Be concise and polite.",
    "You are a vision model.",
    "Today is Friday.",
    "Always answer in English.",
    "You are a friendly robot.",
)
BEFORE = ("Hi! ", "Hello, ", "Now: ", "Question: ", "Look. ", "Hey, ", "OK, ", "So, ")
AFTER = (" Answer briefly.", " Thanks.", " Be precise.", " Please.", " Thank you!", " Use one sentence.")
WORDS = tuple(Path(__file__).with_name("words.txt").read_text(encoding="utf-8").split())
CONSONANTS, VOWELS = "bcdfghjklmnprstvwxz", "aeiou"


def spoken(rng: np.random.Generator, question: str) -> str:
    """The question as somebody in a hurry, or somebody very polite, would type it."""
    u = rng.random()
    if u < 0.1:
        question = question.lower()
    elif u < 0.14:
        question = "Please " + question[:1].lower() + question[1:]
    elif u < 0.17:
        question = pick(rng, BEFORE) + question
    elif u < 0.2:
        question += pick(rng, AFTER)
    elif u < 0.21:
        question = question.upper()
    if rng.random() < 0.1:
        question = question.rstrip(".?!")
    return question


def ask(rng: np.random.Generator, questions: Sequence[str], about: str = "") -> str:
    """One of the questions about a thing."""
    return spoken(rng, pick(rng, questions).format(about))


def caption_request(rng: np.random.Generator, modality: str) -> str:
    """Any wording that asks for a description of media of this modality, or nothing sensible at all."""
    u = rng.random()
    if modality == "pair":
        return ask(rng, CHANGE) if u < 0.75 else ask(rng, CAPTION["pair"]) if u < 0.9 else meaningless(rng)
    if u < 0.5 or (modality == "mixed" and u < 0.8):
        return ask(rng, CAPTION[modality])
    if u < 0.83 and modality != "mixed":
        determiner = pick(rng, ("this ", "the ", "my ", "that "))
        thing = pick(rng, THINGS) if rng.random() < 0.25 else determiner + pick(rng, NOUNS[modality])
        return ask(rng, REQUESTS, thing)
    return meaningless(rng)


def meaningless(rng: np.random.Generator) -> str:
    """No words, letters, made-up words, or real ones in no order."""
    u = rng.random()
    if u < 0.15:
        return ""
    if u < 0.25:
        return "".join(chr(rng.integers(97, 123)) for _ in range(rng.integers(1, 10)))
    words = [made_up(rng) if u < 0.4 else pick(rng, WORDS) for _ in range(rng.integers(1, 8))]
    text = " ".join(words)
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    return text + pick(rng, ("", ".", "?", "!", "..."))


def made_up(rng: np.random.Generator) -> str:
    """A word that exists in no language we know, of one to four syllables."""
    syllables = (pick(rng, CONSONANTS) + pick(rng, VOWELS) for _ in range(rng.integers(1, 5)))
    return "".join(syllables) + (pick(rng, CONSONANTS) if rng.random() < 0.5 else "")


def system_prompt(rng: np.random.Generator) -> str:
    """What an operator might put before the conversation."""
    if rng.random() < 0.8:
        return pick(rng, SYSTEM)
    return " ".join(pick(rng, WORDS) for _ in range(rng.integers(2, 8))) + "."
