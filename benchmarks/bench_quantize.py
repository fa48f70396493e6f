"""What quantizing costs, what it does to a weight, and what the next start saves by keeping the result.

    python -m benchmarks.bench_quantize [--model FOLDER] [--threads 1]

CPU seconds of the fastest of three. The weight is 2048 x 2048, normal with a deviation of 0.02.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import workers.model  # noqa: F401
from service.settings import BUNDLED_MODEL, QUANT_BITS
from workers.model.loading import LoadOptions, load
from workers.model.weights import quantized_cache
from workers.model.weights.hqq_weight import Scheme, dequantize, quantize

SHAPE = (2048, 2048)


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=str(BUNDLED_MODEL))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    quantized_cache._SMALLEST_KEPT = 0
    print(f"torch {torch.__version__}, {options.threads} thread(s)\n")
    _print_weights()
    _print_starts(options.model, options.threads)


def _print_weights() -> None:
    torch.manual_seed(0)
    weight = torch.randn(SHAPE) * 0.02
    print("| bits | s for 4.2 M weights | relative error | bits stored per weight |\n|---|---|---|---|")
    for bits in QUANT_BITS:
        scheme = Scheme(bits, 64)
        seconds = _fastest(lambda: quantize(weight, scheme, torch.float32))  # noqa: B023
        stored = quantize(weight, scheme, torch.float32)
        error = (dequantize(stored, scheme, SHAPE, torch.float32) - weight).norm() / weight.norm()
        tensors = (stored.packed, stored.scale, stored.zero)
        num_bits = 8 * sum(tensor.numel() * tensor.element_size() for tensor in tensors) / weight.numel()
        print(f"| {bits} | {seconds:.3f} | {error:.4f} | {num_bits:.2f} |", flush=True)


def _print_starts(model: str, num_threads: int) -> None:
    print(f"\nLoading {Path(model).name}, without the choice of kernels\n")
    print("| bits | without a cache | first start | second start |\n|---|---|---|---|")
    for bits in QUANT_BITS:
        cells = []
        with tempfile.TemporaryDirectory() as folder:
            options = LoadOptions(
                model, device="cpu", quant_bits=bits, linear_kernel="dequantize", num_threads=num_threads
            )
            kept = Path(folder) / "kept"
            cells.append(_fastest(lambda: load(options)))  # noqa: B023
            through = replace(options, quant_cache=kept)
            cells.append(_seconds(lambda: load(through)))  # noqa: B023
            cells.append(_fastest(lambda: load(through)))  # noqa: B023
        print(f"| {bits} | " + " | ".join(f"{seconds:.2f} s" for seconds in cells) + " |", flush=True)


def _fastest(call: Callable[[], object]) -> float:
    return min(_seconds(call) for _ in range(3))


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


if __name__ == "__main__":
    main()
