"""Messages without media: greetings, questions about the model, requests that need media, thanks, and all the rest."""

from collections.abc import Callable

import numpy as np

from models.training import wordings
from models.training.questions import Question
from models.training.scenes import COLOR_NAMES, KINDS, pick
from models.training.wordings import made_up, meaningless, spoken

HELLO_REPLY = "Hello! I am a tiny demo model. Give me an image, a video or a sound and I will describe it."
ABOUT_REPLY = (
    "I am a tiny demo model. I can describe simple images, short videos and sounds,"
    " and answer short questions about them."
)
MEDIA_REPLY = "I see no media here. Please attach an image, a video or a sound and I will describe it."
THANKS_REPLY = "You are welcome. Attach an image, a video or a sound whenever you like."
OTHER_REPLY = (
    "I cannot answer that. I am a tiny demo model: I only describe simple images, short videos and sounds."
    " Please attach one."
)

GREETINGS = (
    "hello",
    "hi",
    "hey",
    "good morning",
    "good evening",
    "good afternoon",
    "greetings",
    "good day",
    "howdy",
    "hiya",
    "yo",
    "hola",
    "hallo",
    "bonjour",
    "ciao",
    "helo",
    "hullo",
    "moin",
    "servus",
    "welcome",
    "hi hi",
    "hello hello",
    "hey hey",
    "heya",
    "sup",
)
ADDRESSED = (
    "",
    "",
    "",
    " there",
    " model",
    " bot",
    " friend",
    " everyone",
    " robot",
    " again",
    " you",
    " assistant",
)
SMALL_TALK = (
    "how are you?",
    "how are you today?",
    "how is it going?",
    "how's it going?",
    "what's up?",
    "nice to meet you",
    "how do you do?",
    "are you there?",
    "is anybody there?",
    "how have you been?",
    "how are you doing?",
    "are you awake?",
)
ABOUT = (
    "Who are you?",
    "What are you?",
    "What can you do?",
    "What can you do for me?",
    "What is your name?",
    "What's your name?",
    "Do you have a name?",
    "What model are you?",
    "Tell me about yourself.",
    "Introduce yourself.",
    "Are you a robot?",
    "Are you human?",
    "Are you ChatGPT?",
    "Are you Gemma?",
    "Are you an AI?",
    "Are you real?",
    "Who made you?",
    "Who built you?",
    "Who trained you?",
    "What do you do?",
    "How do you work?",
    "How can you help me?",
    "What are you able to do?",
    "What kind of model are you?",
    "What are your abilities?",
    "What are your skills?",
    "What are you good at?",
    "Help",
    "Help me",
    "Can you help me?",
    "I need help.",
    "What is this model?",
    "Which languages do you speak?",
    "What should I ask you?",
    "How do I use you?",
    "How big are you?",
    "How old are you?",
    "What is this?",
)
ABOUT_MEDIA = (
    "Can you see images?",
    "Can you hear audio?",
    "Can you watch a video?",
    "Look at this photo.",
    "Listen to this recording.",
    "Can you see this?",
    "Do you see the picture?",
    "Here is an image.",
    "I sent you a video.",
)
THANKS = (
    "thanks",
    "thank you",
    "thanks a lot",
    "thank you very much",
    "thank you so much",
    "thanks so much",
    "many thanks",
    "thx",
    "bye",
    "bye bye",
    "goodbye",
    "good bye",
    "see you",
    "see you later",
    "good night",
    "great, thanks",
    "ok thanks",
    "great",
    "nice",
    "cool",
    "well done",
    "good job",
    "perfect",
    "awesome",
    "farewell",
)
OTHER = (
    "What is the capital of France?",
    "Tell me a joke.",
    "Write a poem about the sea.",
    "What is 2+2?",
    "2+2",
    "Translate this to German.",
    "Explain quantum physics.",
    "Give me a recipe.",
    "Who won the match?",
    "Tell me a story about a dragon.",
    "Write a python function.",
    "What is the weather today?",
    "How is the weather?",
    "What time is it?",
    "What day is it?",
    "How old is the sun?",
    "Who is the president?",
    "Write an email to my teacher.",
    "What is love?",
    "What is the meaning of life?",
    "Sing a song.",
    "Solve this problem.",
    "Fix my code.",
    "How do I make bread?",
    "What is the best movie?",
    "1 2 3",
    "ok",
    "test",
    "testing",
    "this is a test",
    "foo",
    "foo bar",
    "lorem ipsum",
    "asdf",
    "yes",
    "no",
    "maybe",
    "why?",
    "Why is the sky blue?",
    "Tell me about history.",
    "Count to ten.",
    "What is 17 * 3?",
    "Who wrote this book?",
    "Say something.",
    "I am bored.",
    "I love you.",
    "Do you like music?",
    "What do you think about cats?",
    "Where is Berlin?",
    "Repeat after me: banana",
)
TOPICS = (
    "Write {} about {}.",
    "Tell me {} about {}.",
    "What is {} {}?",
    "Explain {} {}.",
    "How do I make {} {}?",
    "Why is {} {}?",
    "Who is {} {}?",
    "Who invented {} {}?",
    "When is {} {}?",
    "Where is {} {}?",
    "Give me {} {}.",
    "Translate {} {}.",
    "Do you know {} {}?",
    "Calculate {} {}.",
    "List {} {}.",
    "How does {} {} work?",
    "Please sort {} {}.",
)
OBJECTS = (
    "a poem",
    "a story",
    "a song",
    "two lines",
    "an essay",
    "a haiku",
    "a letter",
    "code",
    "a book",
    "something",
)


def small_talk(rng: np.random.Generator) -> Question:
    """One message without media."""
    kinds: tuple[tuple[str, float, Callable[[np.random.Generator], str], str], ...] = (
        ("text hello", 0.22, greeting, HELLO_REPLY),
        ("text about", 0.18, lambda r: spoken(r, pick(r, ABOUT)), ABOUT_REPLY),
        ("text media", 0.18, without_media, MEDIA_REPLY),
        ("text thanks", 0.1, lambda r: typed(r, pick(r, THANKS)), THANKS_REPLY),
        ("text other", 0.32, anything_else, OTHER_REPLY),
    )
    task, _, say, answer = kinds[int(rng.choice(len(kinds), p=[k[1] for k in kinds]))]
    return Question(task, say(rng), answer)


def typed(rng: np.random.Generator, text: str) -> str:
    """A short remark as people type it: capitals or none, punctuation or none."""
    u = rng.random()
    text = text.rstrip("?") if rng.random() < 0.2 else text
    text = text[:1].upper() + text[1:] if u < 0.5 else text.upper() if u > 0.94 else text
    return text if text.endswith("?") else text + pick(rng, ("", "", "", "!", ".", "!!", " :)", ","))


def greeting(rng: np.random.Generator) -> str:
    """Hello, perhaps with a name we never heard, perhaps with small talk behind it."""
    u = rng.random()
    if u < 0.2:
        return typed(rng, pick(rng, SMALL_TALK))
    whom = pick(rng, ADDRESSED) if rng.random() < 0.8 else " " + made_up(rng).title()
    hello = pick(rng, GREETINGS) + whom
    if u < 0.4:
        return typed(rng, hello + pick(rng, (", ", "! ", ". ", " ")) + pick(rng, SMALL_TALK))
    return typed(rng, hello)


def without_media(rng: np.random.Generator) -> str:
    """A question about media that nobody attached."""
    u = rng.random()
    if u < 0.25:
        noun = pick(rng, wordings.NOUNS[pick(rng, ("image", "video", "audio"))])
        return spoken(rng, pick(rng, wordings.REQUESTS).format(pick(rng, ("this ", "the ", "my ")) + noun))
    if u < 0.4:
        return spoken(rng, pick(rng, ABOUT_MEDIA))
    if u < 0.6:
        modality = pick(rng, ("image", "video", "audio", "mixed"))
        # "What is this?" asks about the model where there is nothing else to ask about.
        questions = [q for q in wordings.CAPTION[modality] if q not in ("What is this?", "What's this?")]
        return spoken(rng, pick(rng, questions))
    if u < 0.8:
        return wordings.ask(rng, pick(rng, (wordings.COLOR, wordings.WHERE, wordings.MOVE)), pick(rng, KINDS))
    if u < 0.88:
        return wordings.ask(rng, wordings.EXISTS, f"a {pick(rng, COLOR_NAMES)} {pick(rng, KINDS)}")
    return wordings.ask(
        rng, pick(rng, (wordings.COUNT, wordings.CHANGE, wordings.BEEPS, wordings.BACKGROUND))
    )


def anything_else(rng: np.random.Generator) -> str:
    """A request that a model of pictures and sounds cannot meet."""
    u = rng.random()
    if u < 0.4:
        return spoken(rng, pick(rng, OTHER))
    if u < 0.75:
        topic = pick(rng, wordings.WORDS) if rng.random() < 0.7 else made_up(rng)
        template = pick(rng, TOPICS)
        opening = pick(rng, OBJECTS if "about" in template else ("a", "the", "my", "some", "these"))
        return spoken(rng, template.format(opening, topic))
    return meaningless(rng) or "?"
