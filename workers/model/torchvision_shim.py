"""Lets PyPI's torchvision wheel, built for CUDA, be imported beside a torch without CUDA.

Its transforms, the only part that processors use, are plain torch. Its compiled operators cannot be loaded there, and
the import then fails on the first operator it wants to describe; declaring the name is all that it asks for.
"""

import importlib
import importlib.util
import re
import sys
from functools import cache

import torch

from service.errors import ConfigurationError

_MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
_SCHEMAS = {"nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"}
_MAX_DECLARED = 16
_declared: list[torch.library.Library] = []


@cache
def install() -> bool:
    """Make `import torchvision` work, and say whether it is there. Call before anything from transformers."""
    if importlib.util.find_spec("torchvision") is None:
        return False
    for _ in range(_MAX_DECLARED):
        missing = _import_or_name_missing_operator()
        if missing is None:
            return True
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define(missing + _SCHEMAS.get(missing, "(Tensor input) -> Tensor"))  # type: ignore[no-untyped-call]
        # A declaration lives as long as its library object.
        _declared.append(library)
    raise _misfit()


def _import_or_name_missing_operator() -> str | None:
    before = set(sys.modules)
    try:
        importlib.import_module("torchvision")
    except (RuntimeError, ImportError) as error:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "torchvision":
                del sys.modules[name]
        found = _MISSING_OPERATOR.search(str(error))
        if found is None:
            raise _misfit() from error
        return found[1]
    return None


def _misfit() -> ConfigurationError:
    return ConfigurationError(
        f"The installed torchvision does not fit torch {torch.__version__}.",
        hint="Install the torchvision release that belongs to this torch, or uninstall torchvision.",
    )
