"""Which model names a request may use, and what each of them means."""

from collections.abc import Mapping
from types import MappingProxyType

from service.actions.model_states import model_states
from service.actions.parts import Parts
from service.contract.manifest import DEFAULT_MODEL
from service.errors import UnknownModel

# What huggingface_hub sends as the model's name where its user gave it an address and no name.
PLACEHOLDERS = frozenset({"dummy", "tgi"})


def known_models(parts: Parts) -> Mapping[str, str]:
    """Every accepted name, and the name under which workers serve it.

    A model that nobody configured here is known while a worker has it, and for a while after: the worker may be
    starting again, and its clients must not be told that they have misspelt its name.
    """
    own = {
        alias: settings.model_name
        for settings in reversed(parts.settings.each_model)
        for alias in (DEFAULT_MODEL, settings.model, settings.model_name)
    }
    return MappingProxyType({name: name for name in model_states(parts)} | own)


def served_name(parts: Parts, asked: str, path_model: str | None = None) -> str:
    """The name under which workers serve the model that a request asks for; UnknownModel if none does.

    path_model: the model that the request's address names; it stands in where the body says nothing in particular.
    """
    if asked in PLACEHOLDERS:
        asked = DEFAULT_MODEL
    if asked == DEFAULT_MODEL and path_model is not None:
        asked = path_model
    known = known_models(parts)
    if asked not in known:
        raise unknown_model(asked, known)
    return known[asked]


def unknown_model(name: str, known: Mapping[str, str], param: str = "model") -> UnknownModel:
    """A refusal that says which names there are."""
    names = sorted(set(known.values()))
    return UnknownModel(
        f"No worker serves a model called {name[:100]!r}.",
        param=param,
        hint=f"Use {', '.join(map(repr, names[:10]))} or 'default'.",
    )
