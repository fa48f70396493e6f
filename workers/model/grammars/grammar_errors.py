"""What is wrong with a grammar, in sentences that its author can act on.

llguidance's text speaks of nothing but the grammar, so facts out of it (names, places, reasons) may be shown.
"""

import re

from service.contract.grammars import GrammarKind

_SUBJECTS: dict[GrammarKind, str] = {
    "json_schema": "The JSON schema",
    "regex": "The regular expression",
    "lark": "The Lark grammar",
}
_MAX_FACT_LETTERS = 120

# Patterns of llguidance's text and what they mean; the first that is found tells. {it} is the grammar.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"Unimplemented keys: \[(.+)\]", "{it} uses {fact}, which cannot be enforced while writing. Remove it."),
    (r"Unknown format: (.+)", "{it} uses the format '{fact}', which cannot be enforced. Remove it."),
    (
        r"oneOf constraints",
        "{it} has a `oneOf` whose choices overlap, which cannot be enforced. Use `anyOf`.",
    ),
    (r"Pointer '(.+)' does not exist", "{it} refers to '{fact}', which it does not contain."),
    (r"not present in a registry", "{it} refers to another document; only its own parts can be referred to."),
    (r"circular ref", "{it} has a circular reference that cannot be followed."),
    (r"Unsatisfiable schema: (.+)", "{it} cannot be satisfied by anything: {fact}."),
    (r"NoExtension", "{it} cannot be satisfied by any text."),
    (r"unknown special token", "{it} names a special token, which an answer cannot contain."),
    (r"look-?arounds?\b", "{it} uses look-around or word boundaries, which are not supported."),
    (r"backreferences", "{it} uses backreferences, which are not supported."),
    (r"(?m)^error: (.+)", "{it} has an error: {fact}."),
    (
        r"too (?:big|large|many|complex|deeply)|fuel|limit|[Mm]ax is|max(?:imum)? .* exceeded",
        "{it} is too complex: it would take too much time or memory. Make it smaller or flatter.",
    ),
    (r"no start rule", "{it} has no rule named 'start'."),
    (r"Empty grammar", "{it} is empty."),
    (r"^(?:at )?(\d+\(\d+\): [^\n(]+)", "{it} has an error at line(column) {fact}."),
)


def explain(kind: GrammarKind, error: str) -> str:
    """One sentence for llguidance's `error`."""
    for pattern, meaning in _MEANINGS:
        found = re.search(pattern, error)
        if found:
            fact = found[1] if found.groups() else ""
            return meaning.format(it=_SUBJECTS[kind], fact=_plain(fact))
    return f"{_SUBJECTS[kind]} is not valid, or asks for something that cannot be enforced."


def _plain(fact: str) -> str:
    """One line without quotes of quotes."""
    return fact.replace('\\"', "'").replace('"', "'").strip(" .")[:_MAX_FACT_LETTERS]
