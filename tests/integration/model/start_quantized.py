"""One start of a worker's model, as a process: prints a digest of every weight, and what the log said.

python start_quantized.py CACHE [LARGEST_FILE_BYTES | dies]
"""

import hashlib
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path

import torch

import workers.model  # noqa: F401
from service.settings import BUNDLED_MODEL
from workers.model.loading import LoadOptions, load
from workers.model.weights import quantized_cache


def main() -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    quantized_cache._SMALLEST_KEPT = 0
    if sys.argv[2:] == ["dies"]:
        # When all files are written, and nothing says yet that they are.
        quantized_cache._contents = lambda folder: os.kill(os.getpid(), signal.SIGKILL)
    elif len(sys.argv) > 2:
        # What a full disk is to whoever writes: an error in the middle of a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    print("ready", flush=True)
    sys.stdin.readline()
    options = LoadOptions(
        str(BUNDLED_MODEL),
        device="cpu",
        quant_bits=4,
        quant_cache=Path(sys.argv[1]),
        linear_kernel="dequantize",
    )
    digest = hashlib.sha256()
    for name, tensor in sorted(load(options).model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    print(json.dumps(digest.hexdigest()), flush=True)


if __name__ == "__main__":
    main()
