"""Which model names a request may use, and what each of them means."""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import select

from service.actions.parts import Parts
from service.contract.manifest import DEFAULT_MODEL
from service.errors import UnknownModel
from service.store.tables import WorkerModel


def known_models(parts: Parts) -> Mapping[str, str]:
    """Every accepted name, and the name under which workers serve it."""
    with parts.database.reading() as db:
        served = {name: name for name in db.scalars(select(WorkerModel.model).distinct())}
    own = {
        alias: settings.model_name
        for settings in reversed(parts.settings.each_model)
        for alias in (DEFAULT_MODEL, settings.model, settings.model_name)
    }
    return MappingProxyType(served | own)


def unknown_model(name: str, known: Mapping[str, str], param: str = "model") -> UnknownModel:
    """A refusal that says which names there are."""
    names = sorted(set(known.values()))
    return UnknownModel(
        f"No worker serves a model called {name[:100]!r}.",
        param=param,
        hint=f"Use {', '.join(map(repr, names[:10]))} or 'default'.",
    )
