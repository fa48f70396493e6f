"""Following results across connections that are cut in the middle of a line: every line once, in order."""

import csv
import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from service.errors import SluiceError, Unavailable
from sluice import following
from sluice.cli import _exit_code
from sluice.client import Client
from sluice.following import follow_results, read_results

NUM_LINES = 9
TEXT = 'Two lines,\r\nand "quotes"\n'
BATCH = "batch_1"


def json_line(number: int) -> bytes:
    return json.dumps({"line": number, "text": TEXT, "cursor": f"0.{number}"}).encode() + b"\n"


def csv_line(*cells: object) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


class Shaky(ThreadingHTTPServer):
    """A server of one batch. cuts: how many bytes of a follower's answer arrive, one number for each connection."""

    daemon_threads = True

    def __init__(self, cuts: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cuts = cuts
        self.cursors: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shaky

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if BATCH not in self.path:
            self._refuse()
            return
        seen = int(query.get("cursor", "0.0").partition(".")[2])
        numbers = range(seen + 1, NUM_LINES + 1)
        if query["format"] == "csv":
            names = b"" if seen else csv_line("line", "text", "cursor")
            body = names + b"".join(csv_line(number, TEXT, f"0.{number}") for number in numbers)
        else:
            body = b"".join(map(json_line, numbers))
        follows = query.get("follow") == "true"
        if follows:
            self.server.cursors.append(query.get("cursor", ""))
        self._answer(body, self.server.cuts.pop(0) if follows and self.server.cuts else None)

    def _answer(self, body: bytes, cut: int | None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 2))
        self.send_header("x-sluice-cursor", f"0.{NUM_LINES}")
        self.send_header("x-sluice-complete", "true")
        self.end_headers()
        # First what keeps a quiet connection alive.
        self.wfile.write(b"\r\n" + body[:cut])
        if cut is not None:
            self.close_connection = True

    def _refuse(self) -> None:
        body = json.dumps({"error": {"message": "There is no batch of this id.", "code": "batch_not_found"}})
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def shaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shaky]:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.01)
    with Shaky([]) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(shaky: Shaky) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{shaky.server_port}") as opened:
        yield opened


@pytest.mark.parametrize("cuts", [[], [0], [3, 200, 1], [90, 90, 90, 90, 90], [500]])
def test_json_lines_come_once_each_wherever_the_connection_is_cut(
    shaky: Shaky, client: Client, cuts: list[int]
) -> None:
    shaky.cuts = list(cuts)

    lines = list(follow_results(client, BATCH, "jsonl"))

    assert lines == [json_line(number) for number in range(1, NUM_LINES + 1)]
    assert len(shaky.cursors) == len(cuts) + 1


@pytest.mark.parametrize("cuts", [[], [5], [18, 30, 1], [60, 45, 45, 45, 45, 45]])
def test_rows_come_once_each_with_one_row_of_names(shaky: Shaky, client: Client, cuts: list[int]) -> None:
    shaky.cuts = list(cuts)

    told = b"".join(follow_results(client, BATCH, "csv")).decode()

    rows = list(csv.DictReader(io.StringIO(told, newline="")))
    assert [row["line"] for row in rows] == [str(number) for number in range(1, NUM_LINES + 1)]
    assert {row["text"] for row in rows} == {TEXT}


def test_a_server_that_stays_away_is_given_up(shaky: Shaky, client: Client) -> None:
    shaky.cuts = [300]
    lines = follow_results(client, BATCH, "jsonl", patience_seconds=0.2)
    assert next(lines) == json_line(1)

    shaky.shutdown()
    shaky.server_close()

    with pytest.raises(Unavailable):
        list(lines)


def test_a_batch_that_is_not_there_is_not_waited_for(client: Client) -> None:
    with pytest.raises(SluiceError) as refusal:
        list(follow_results(client, "batch_2", "jsonl"))
    assert refusal.value.code == "batch_not_found"


def test_what_there_is_is_written_whole(shaky: Shaky, client: Client, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    url = f"http://127.0.0.1:{shaky.server_port}"

    code = _exit_code(["results", BATCH, "--format", "jsonl", "-o", str(target), "--url", url])

    assert code == 0
    lines = [line for line in target.read_bytes().splitlines(keepends=True) if line.strip()]
    assert lines == [json_line(number) for number in range(1, NUM_LINES + 1)]
    assert list(tmp_path.iterdir()) == [target]
    assert b"".join(read_results(client, BATCH, "jsonl")).strip() == target.read_bytes().strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--follow", "--format", "parquet"], "Parquet cannot be followed"),
        (["--follow", "--errors", "e.jsonl"], "no --errors"),
        (["--format", "xml"], "Invalid value for '--format'"),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(["results", BATCH, *arguments]) == 2
    assert said in capsys.readouterr().err
