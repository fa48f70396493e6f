"""The sound of a transcription: there for its worker alone, and gone with its listener, or in time."""

import pytest

from service.actions.forget_expired import forget_expired
from service.actions.parts import Parts
from service.actions.read_files import list_files
from service.actions.start_transcription import forget_sound, keep_sound
from service.contract.callers import Caller
from service.errors import MediaUnavailable, NotFound
from service.store.files import GRACE_SECONDS
from service.store.tables import File
from workers.uploads import open_upload

ME = Caller()


def test_a_sound_is_read_by_its_tenant_s_jobs_and_shown_in_no_list(parts: Parts) -> None:
    file_id = keep_sound(parts, ME, [b"sound"], "a.wav")

    with open_upload(parts, ME.tenant_id, file_id) as stream:
        assert stream.read() == b"sound"
    with pytest.raises(MediaUnavailable):
        open_upload(parts, "others", file_id)
    assert list_files(parts, ME).data == []


def test_a_sound_is_gone_once_it_is_forgotten(parts: Parts) -> None:
    file_id = keep_sound(parts, ME, [b"sound"], "a.wav")

    forget_sound(parts, ME, file_id)
    forget_sound(parts, ME, file_id)

    with pytest.raises(NotFound):
        parts.blobs.size(f"files/{file_id}")


def test_a_sound_whose_listener_died_is_deleted_in_time(parts: Parts) -> None:
    file_id = keep_sound(parts, ME, [b"sound"], "a.wav")
    forget_expired(parts)
    assert parts.blobs.size(f"files/{file_id}") == 5

    with parts.database.transaction() as db:
        row = db.get_one(File, file_id)
        assert row.expires_at is not None
        row.expires_at -= parts.settings.chat_timeout_seconds + GRACE_SECONDS + 3600
    forget_expired(parts)

    with pytest.raises(NotFound):
        parts.blobs.size(f"files/{file_id}")
