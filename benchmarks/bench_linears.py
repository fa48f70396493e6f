"""How long one linear layer takes on this CPU: torch's kernel, oneDNN on packed weights, HQQ's weights by torch's int4
kernel or rebuilt on every call.

    python -m benchmarks.bench_linears [--threads 1] [--shapes 2048x2048,1024x192] [--rows 1,16,128,1024]

Prints milliseconds of the fastest of many calls (noise only ever adds) and the GFLOP/s of the packed kernel.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.hqq_weight import Scheme
from workers.model.weights.int4 import Int4Linear
from workers.model.weights.packed import PackedLinear

SECONDS_EACH = 0.3
# The bundled model's widest layers, and those of models with about 0.3, 2 and 4 thousand million parameters.
SHAPES = "1024x192,384x192,2048x768,2048x2048,9728x2560"


def main() -> None:
    """Measure every shape at every number of rows, and print a table."""
    options = _options()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} thread(s)\n"
    )
    columns = ["torch", "packed", "hqq 8", "hqq 4"]
    columns += ["bf16", "bf16 packed", "bf16 hqq 4", "bf16 int4", "packed GFLOP/s"]
    print("| out x in | rows | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    with torch.inference_mode():
        for shape in options.shapes.split(","):
            out_features, in_features = map(int, shape.split("x"))
            layers = _layers(out_features, in_features)
            for rows in map(int, options.rows.split(",")):
                _print_row(layers, rows, out_features, in_features)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--rows", default="1,16,128,1024")
    return parser.parse_args()


def _layers(out_features: int, in_features: int) -> list[tuple[nn.Module, torch.dtype]]:
    layers: list[tuple[nn.Module, torch.dtype]] = []
    for dtype, all_bits in ((torch.float32, (8, 4)), (torch.bfloat16, (4,))):
        linear = nn.Linear(in_features, out_features, bias=False, dtype=dtype).requires_grad_(False)
        hqq = [HqqLinear(linear, Scheme(bits, 64), dtype).quantize_(linear.weight) for bits in all_bits]
        kinds = [linear, PackedLinear(linear.weight, None), *hqq]
        layers += [(kind, dtype) for kind in kinds]
    # In float32 the int4 kernel would take most of an hour: it multiplies number by number.
    return [*layers, (Int4Linear(hqq[-1]), torch.bfloat16)]


def _print_row(
    layers: list[tuple[nn.Module, torch.dtype]], rows: int, out_features: int, in_features: int
) -> None:
    seconds = []
    for layer, dtype in layers:
        x = torch.randn(rows, in_features, dtype=dtype)
        seconds.append(_fastest(lambda: layer(x)))  # noqa: B023
    rate = 2 * rows * out_features * in_features / seconds[1] / 1e9
    cells = [f"{1e3 * value:.3f}" for value in seconds]
    print(f"| {out_features}x{in_features} | {rows} | " + " | ".join(cells) + f" | {rate:.0f} |", flush=True)


def _fastest(call: Callable[[], Tensor]) -> float:
    call()
    best, deadline = float("inf"), time.perf_counter() + SECONDS_EACH
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
