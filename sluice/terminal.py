"""Other people's words on a person's screen."""


def plain(text: str) -> str:
    """The text without characters that steer a terminal: a model, or a manifest, may say anything."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def one_line(text: str) -> str:
    """The text on one line."""
    return plain(" ".join(text.split()))
