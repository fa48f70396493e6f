"""Brings up the large libraries in the one order in which they get along; the package does so before anything else."""

import sys

import torch

from workers.model import torchvision_shim


def import_hqq() -> None:
    """Import HQQ without its compiled variants, which we never call.

    It compiles them while it is imported, which loads torch's whole compiler: 1.7 s and 100 MB in every worker.
    transformers imports HQQ wherever it is installed, so this has to come first.
    """
    if "hqq.core.quantize" in sys.modules:
        return
    compile_function = torch.compile
    torch.compile = lambda *_, **__: lambda function: function  # type: ignore[assignment]
    try:
        import hqq.core.quantize  # type: ignore[import-untyped]  # noqa: F401
    finally:
        torch.compile = compile_function


import_hqq()
HAS_TORCHVISION = torchvision_shim.install()
