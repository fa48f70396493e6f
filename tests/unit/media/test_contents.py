"""What tells the bytes of a medium, and whether a file still holds them."""

import base64
import os
import time
from pathlib import Path

import pytest

from service.contract.media import MediaKind, MediaRef
from service.errors import MediaUnavailable
from workers.media.contents import RESTLESS_NS, Content
from workers.media.limits import MediaLimits
from workers.media.sources import Sources

RED, BLUE = b"red" * 1000, b"blue" * 750


def content(url: str, folder: Path) -> Content | None:
    def read_upload(tenant_id: str, file_id: str) -> Path:
        if tenant_id != "cats":
            raise MediaUnavailable("There is no such file.")
        return folder / file_id

    sources = Sources(MediaLimits(), [folder.resolve()], read_upload)
    return sources.content(MediaRef(MediaKind.IMAGE, url, "messages[0]"), "cats")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A file that has been at rest for a while."""
    path = tmp_path / "1.png"
    write(path, RED)
    return path


def write(path: Path, what: bytes) -> None:
    path.write_bytes(what)
    a_while_ago = time.time_ns() - 10 * RESTLESS_NS
    os.utime(path, ns=(a_while_ago, a_while_ago))


def test_equal_bytes_are_equal_however_they_are_named(tmp_path: Path, picture: Path) -> None:
    write(tmp_path / "file-1", RED)
    data = "data:image/png;base64," + base64.b64encode(RED).decode()

    found = [content(url, tmp_path) for url in (str(picture), picture.as_uri(), "file-1", data)]

    assert all(each is not None for each in found)
    assert len({each.sha256 for each in found if each is not None}) == 1


def test_other_bytes_under_the_same_name_are_other_content(tmp_path: Path, picture: Path) -> None:
    before = content(str(picture), tmp_path)
    write(picture, BLUE)
    after = content(str(picture), tmp_path)

    assert before is not None
    assert after is not None
    assert before.sha256 != after.sha256


def test_a_file_at_rest_has_not_changed(tmp_path: Path, picture: Path) -> None:
    found = content(str(picture), tmp_path)

    assert found is not None
    assert not found.has_changed()


@pytest.mark.parametrize("how", ["written", "replaced", "removed", "in the same moment"])
def test_a_file_that_was_touched_since_may_have_changed(tmp_path: Path, picture: Path, how: str) -> None:
    if how == "in the same moment":
        picture.write_bytes(RED)
    found = content(str(picture), tmp_path)
    match how:
        case "written":
            write(picture, BLUE)
        case "replaced":
            write(tmp_path / "2.png", RED)
            os.replace(tmp_path / "2.png", picture)
        case "removed":
            picture.unlink()

    assert found is not None
    assert found.has_changed()


def test_uploads_and_data_do_not_change(tmp_path: Path) -> None:
    (tmp_path / "file-1").write_bytes(RED)
    data = "data:image/png;base64," + base64.b64encode(RED).decode()

    for url in ("file-1", data):
        found = content(url, tmp_path)
        assert found is not None
        assert not found.has_changed()


def test_an_address_on_the_network_tells_no_content(tmp_path: Path) -> None:
    assert content("https://example.org/1.png", tmp_path) is None
