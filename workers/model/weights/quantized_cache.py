"""Quantized checkpoints on disk, so that a model is quantized at its first start alone.

An entry is a folder with a checkpoint and `contents.json`, which names every file with its size and checksum. It is
written beside its place and renamed into it, so that whoever sees an entry sees a whole one. Nothing that goes wrong
here stops a start: the model is then quantized as if there were no cache.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import PreTrainedModel

from workers.model.weights.quantize import describe

log = logging.getLogger(__name__)

# Counts changes of how we store weights.
_FORMAT = 1
_CONTENTS = "contents.json"
_BLOCK_BYTES = 1 << 20
# Fewer numbers than this are quantized again sooner than their copy would be checked.
_SMALLEST_KEPT = 4_000_000
# Configurations and file headers, and what a full disk needs to stay well.
_SPARE_BYTES = 64 << 20
_UNFIT_FOR_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def entry_name(model: str, revision: str, options: Mapping[str, Any], dtype: torch.dtype, device: str) -> str:
    """The name of an entry: the same for everything that makes the same bits, another for anything else.

    device: its type, since HQQ solves in half precision on CUDA.
    """
    identity = {
        "format": _FORMAT,
        "revision": revision,
        "options": dict(options),
        "dtype": str(dtype),
        "device": device,
        "libraries": {library: version(library) for library in ("hqq", "transformers")},
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{_UNFIT_FOR_A_NAME.sub('-', model)[:40]}-{digest[:24]}"


@dataclass(frozen=True, slots=True)
class QuantizedCache:
    """Entries under `folder`, the least recently used of which go when they exceed `max_bytes` together."""

    folder: Path
    max_bytes: int

    def load(
        self, name: str, stored: Callable[[Path], PreTrainedModel], fresh: Callable[[], PreTrainedModel]
    ) -> PreTrainedModel:
        """The entry of that name by `stored`; if there is none that is sound, what `fresh` makes, which is kept.

        Of several processes that need the same entry one makes it and the others wait for it.
        """
        model = self._from_entry(name, stored)
        if model is not None:
            return model
        with self._alone(name):
            model = self._from_entry(name, stored)
            if model is None:
                model = fresh()
                self._keep(name, model)
        return model

    def _from_entry(self, name: str, stored: Callable[[Path], PreTrainedModel]) -> PreTrainedModel | None:
        entry = self.folder / name
        try:
            if not _is_whole(entry):
                return None
            model = stored(entry)
            os.utime(entry / _CONTENTS)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            log.warning("The quantized checkpoint %s cannot be used and is made anew: %s", entry, error)
            shutil.rmtree(entry, ignore_errors=True)
            return None
        log.info("Loaded the quantized checkpoint %s", entry)
        return model

    def _keep(self, name: str, model: PreTrainedModel) -> None:
        facts = describe(model)
        if facts is None or facts["num_weights"] < _SMALLEST_KEPT:
            return
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _sweep(self.folder, name)
            self._make_room(num_bytes)
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=self.folder))
            model.save_pretrained(temporary)
            (temporary / _CONTENTS).write_text(json.dumps(_contents(temporary)))
            temporary.rename(self.folder / name)
        # Whatever it is, a full disk or a configuration that cannot be saved: the model itself is ready.
        except Exception as error:
            log.warning("The quantized checkpoint is not kept for the next start: %s", error)
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        else:
            log.info("Kept the quantized checkpoint in %s", self.folder / name)

    def _make_room(self, num_bytes: int) -> None:
        """Remove the entries that were not used for longest. OSError: there is not enough room even so."""
        if num_bytes > self.max_bytes:
            raise OSError(f"its {num_bytes} bytes are more than the {self.max_bytes} that may be kept")
        entries = sorted(self.folder.glob(f"[!.]*/{_CONTENTS}"), key=lambda path: path.stat().st_mtime)
        sizes = {path.parent: sum(file.stat().st_size for file in path.parent.iterdir()) for path in entries}
        total = sum(sizes.values())
        for entry, size in sizes.items():
            if total + num_bytes <= self.max_bytes:
                break
            log.info("Removing the quantized checkpoint %s, which was not used for longest", entry)
            shutil.rmtree(entry, ignore_errors=True)
            total -= size
        if shutil.disk_usage(self.folder).free < num_bytes + _SPARE_BYTES:
            raise OSError(f"the disk of {self.folder} is too full for its {num_bytes} bytes")

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Wait for whoever is making the same entry. The kernel lets go of a dead process's lock."""
        lock = FileLock(self.folder / f".{name}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            log.warning("Quantizing without a lock, perhaps beside another process: %s", error)
        try:
            yield
        finally:
            lock.release()


def _is_whole(entry: Path) -> bool:
    """Whether an entry is there. OSError, ValueError: it is, but its files are not what was written."""
    if not entry.exists():
        return False
    expected = json.loads((entry / _CONTENTS).read_text())
    if expected != _contents(entry):
        raise ValueError("its files are damaged")
    return True


def _contents(folder: Path) -> dict[str, list[int]]:
    """Size and checksum of every file."""
    files = sorted(path for path in folder.iterdir() if path.name != _CONTENTS)
    return {path.name: [path.stat().st_size, _checksum(path)] for path in files}


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            value = zlib.crc32(block, value)
    return value


def _sweep(folder: Path, name: str) -> None:
    """Remove what processes that died left of this entry: nobody else is making it while we hold its lock."""
    for left in folder.glob(f".{name}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
