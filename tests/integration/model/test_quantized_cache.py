"""Quantized checkpoints that one start keeps for the next."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from service.settings import BUNDLED_MODEL
from workers.model.loading import LoadOptions, load
from workers.model.weights import quantized_cache
from workers.model.weights.quantize import HqqOptions
from workers.model.weights.quantized_cache import QuantizedCache, entry_name

SCRIPT = Path(__file__).with_name("start_quantized.py")
REPOSITORY = Path(__file__).parents[3]
KEPT, LOADED = "Kept the quantized checkpoint", "Loaded the quantized checkpoint"
UNUSABLE, NOT_KEPT = "cannot be used and is made anew", "is not kept for the next start"

Start = Callable[..., PreTrainedModel]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Start:
    """Loads the bundled model, which is smaller than what is worth keeping, through a cache of the test's own."""
    monkeypatch.setattr(quantized_cache, "_SMALLEST_KEPT", 0)
    caplog.set_level(logging.INFO)

    def run(bits: int = 4, **options: object) -> PreTrainedModel:
        caplog.clear()
        asked = {"quant_cache": tmp_path / "kept", "linear_kernel": "dequantize", "device": "cpu", **options}
        return load(LoadOptions(str(BUNDLED_MODEL), quant_bits=bits, **asked)).model  # type: ignore[arg-type]

    return run


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "kept").iterdir() if not path.name.startswith("."))


def assert_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    expected, found = one.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert tensor.dtype == found[name].dtype
        assert torch.equal(tensor, found[name]), name


@pytest.mark.parametrize("options", [{"bits": 4}, {"bits": 1, "dtype": "bfloat16"}, {"bits": 3}])
def test_the_second_start_loads_what_the_first_has_kept_bit_for_bit(
    options: dict[str, object], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    first = start(**options)
    assert KEPT in caplog.text

    second = start(**options)

    assert LOADED in caplog.text
    assert_same(first, second)
    ids = torch.arange(5, 25).reshape(1, -1)
    assert torch.equal(first(input_ids=ids).logits, second(input_ids=ids).logits)


def test_rules_keep_their_order_on_disk(start: Start) -> None:
    """The first that matches decides, and these are not in alphabetical order."""
    rules = {r"up_proj": 2, r"mlp": 8, r"layers\.0\.": None}

    first = start(quant_rules=rules)

    assert_same(first, start(quant_rules=rules))


def test_what_a_model_in_full_precision_or_an_operator_without_a_cache_asks_for_is_not_kept(
    start: Start, tmp_path: Path
) -> None:
    start(quant_cache=None)
    start(bits=None)

    assert not (tmp_path / "kept").exists()


def test_small_models_are_not_worth_keeping(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()

    start()

    assert entries(tmp_path) == []


def flip_a_bit(entry: Path) -> None:
    with (entry / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)[0]
        file.seek(1_000_000)
        file.write(bytes([byte ^ 1]))


def cut_off(entry: Path) -> None:
    os.truncate(entry / "model.safetensors", 1_000_000)


def lose_the_configuration(entry: Path) -> None:
    (entry / "config.json").unlink()


def garble_the_contents(entry: Path) -> None:
    (entry / "contents.json").write_text("{")


def forget_the_contents(entry: Path) -> None:
    """As a copy that was interrupted would."""
    (entry / "contents.json").unlink()


def say_other_bits(entry: Path) -> None:
    """Whole files that do not fit together."""
    config = entry / "config.json"
    config.write_text(config.read_text().replace('"bits": 4', '"bits": 2'))
    contents = quantized_cache._contents(entry)
    (entry / "contents.json").write_text(quantized_cache.json.dumps(contents))


@pytest.mark.parametrize(
    "spoil",
    [
        flip_a_bit,
        cut_off,
        lose_the_configuration,
        garble_the_contents,
        forget_the_contents,
        say_other_bits,
    ],
)
def test_a_damaged_entry_is_noticed_and_made_anew(
    spoil: Callable[[Path], None], start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = start()
    spoil(entries(tmp_path)[0])

    assert_same(first, start())

    assert UNUSABLE in caplog.text
    assert KEPT in caplog.text
    start()
    assert LOADED in caplog.text


def test_entries_that_were_not_used_for_longest_go_first(start: Start, tmp_path: Path) -> None:
    start(bits=8)
    eight = entries(tmp_path)[0]
    size = sum(file.stat().st_size for file in eight.iterdir())
    start(bits=4)
    four = next(entry for entry in entries(tmp_path) if entry != eight)
    for age, entry in enumerate((eight, four)):
        os.utime(entry / "contents.json", (age, age))
    start(bits=8)

    start(bits=3, quant_cache_bytes=int(2.5 * size))

    assert eight in entries(tmp_path)
    assert four not in entries(tmp_path)


def test_what_is_larger_than_the_cache_may_be_is_not_kept(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(quant_cache_bytes=1 << 20)

    assert NOT_KEPT in caplog.text
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_made_stops_nobody(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    start(quant_cache=tmp_path / "file" / "kept")

    assert "Quantizing without a lock" in caplog.text
    assert NOT_KEPT in caplog.text


def test_out_of_memory_is_no_damage(tmp_path: Path) -> None:
    entry = tmp_path / "kept" / "name"
    entry.mkdir(parents=True)
    (entry / "contents.json").write_text("{}")

    def runs_out(folder: Path) -> PreTrainedModel:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        QuantizedCache(tmp_path / "kept", 1 << 30).load("name", runs_out, lambda: pytest.fail("quantized"))

    assert entry.exists()


def test_everything_that_changes_bits_has_an_entry_of_its_own() -> None:
    plain = HqqOptions(4).to_dict()

    def name(options: HqqOptions | None = None, revision: str = "a", device: str = "cpu") -> str:
        return entry_name("m", revision, options.to_dict() if options else plain, torch.float32, device)

    names = [
        name(),
        name(revision="b"),
        name(device="cuda"),
        entry_name("m", "a", plain, torch.bfloat16, "cpu"),
        *map(
            name,
            [
                HqqOptions(8),
                HqqOptions(4, group_size=32),
                HqqOptions(4, skip=[]),
                HqqOptions(4, rules={"a": 2, "b": 3}),
                HqqOptions(4, rules={"b": 3, "a": 2}),
                HqqOptions(4, organization="moqe"),
            ],
        ),
    ]

    assert len(set(names)) == len(names)
    assert name(HqqOptions(4)) == name()


@pytest.fixture
def processes() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts of workers in processes of their own, which wait for a line before they load."""
    with ExitStack() as stack:

        def begin(*arguments: object) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.__exit__, None, None, None)
            stack.callback(process.kill)
            return process

        yield begin


def is_ready(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "ready\n"


@pytest.mark.slow
def test_of_two_workers_that_start_together_one_quantizes_and_both_have_the_same(
    tmp_path: Path, processes: Callable[..., "subprocess.Popen[str]"]
) -> None:
    both = [processes(tmp_path / "kept"), processes(tmp_path / "kept")]
    assert all(map(is_ready, both))

    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=100) for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert ended[0][0] == ended[1][0] != ""
    said = [errors for _, errors in ended]
    assert sorted(KEPT in errors for errors in said) == [False, True]
    assert sorted(LOADED in errors for errors in said) == [False, True]
    assert len(entries(tmp_path)) == 1


@pytest.mark.slow
def test_a_worker_killed_while_it_writes_blocks_nobody_and_leaves_nothing(
    tmp_path: Path,
    processes: Callable[..., "subprocess.Popen[str]"],
    start: Start,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = processes(tmp_path / "kept", "dies")
    assert is_ready(process)
    process.communicate("\n", timeout=100)
    assert process.returncode == -signal.SIGKILL
    left = [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]
    assert [(path / "model.safetensors").exists() for path in left] == [True]

    start()

    assert KEPT in caplog.text
    assert [path for path in (tmp_path / "kept").iterdir() if path.is_dir()] == entries(tmp_path)
    start()
    assert LOADED in caplog.text


@pytest.mark.slow
def test_a_disk_that_fills_while_it_is_written_stops_nobody(
    tmp_path: Path, processes: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = processes(tmp_path / "kept", 1 << 20)
    assert is_ready(process)

    weights, errors = process.communicate("\n", timeout=100)

    assert process.returncode == 0, errors
    assert weights
    assert NOT_KEPT in errors
    assert [path for path in (tmp_path / "kept").iterdir() if path.is_dir()] == []
