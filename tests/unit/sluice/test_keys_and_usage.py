"""`sluice keys` on a real database of its own, and `sluice usage` of a report."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sluice.cli import _exit_code
from sluice.commands import usage


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert _exit_code(["keys", *arguments]) == 0
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(told(capsys, "list", "--json", *arguments)))


def test_a_key_is_made_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    secret = told(capsys, "create", "--tenant", "acme", "--name", "laptop").strip()
    made = json.loads(told(capsys, "create", "--admin", "--expires", "30d", "--json"))
    assert made["key"].startswith(made["prefix"])
    assert (made["role"], made["tenant"]) == ("admin", "default")
    assert made["expires_at"] - made["created_at"] == pytest.approx(30 * 86400)

    keys = listed(capsys)
    assert [key["role"] for key in keys] == ["admin", "user"]
    assert secret.startswith(keys[1]["prefix"])
    assert [key["name"] for key in listed(capsys, "--tenant", "acme")] == ["laptop"]
    shown = told(capsys, "list")
    assert secret not in shown
    assert "laptop" in shown
    assert max(map(len, shown.splitlines())) <= 80

    assert "is revoked" in told(capsys, "revoke", made["id"])
    assert "was revoked before" in told(capsys, "revoke", made["id"])
    assert f"{made['id']}  default       admin  revoked 2" in told(capsys, "list")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--expires", "30"], "not a time such as 30d"),
        (["create", "--expires", "0d"], "not a time such as 30d"),
        (["create", "--tenant", "a/b"], "cannot name a tenant"),
        (["revoke", "key_1"], "There is no key key_1. See: sluice keys list"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_a_next_step(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert _exit_code(["keys", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_usage_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {name: 123_456_789 for names in usage.COUNTS.values() for name in names}
    row = {"key_id": "key_" + "0" * 24, "model": "organisation/a-model-with-a-long-name", "day": "2026-03-01"}
    report = {"group_by": ["key", "model", "day"], "data": [row | counts, {**row, "key_id": None} | counts]}
    Console(width=usage.COLUMNS).print(usage.table(report | {"total": counts}))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    assert all(line.count("123,456,789") == 3 and "370,370,367" in line for line in lines[1:])
    assert all("2026-03-01" in line for line in lines[1:3])
    assert lines[-1].startswith("total")
