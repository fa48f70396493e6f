"""Real decoder children, shared by the tests that do not harm them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from media_samples import NEEDS, PARAM, ref_to

from service.contract.media import MediaKind, MediaNeeds
from service.errors import NotFound, SluiceError
from workers.media.decoded import Decoded
from workers.media.limits import MediaLimits
from workers.media.media import Media

Load = Callable[..., Decoded]
Refused = Callable[..., SluiceError]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that local media may come from."""
    return tmp_path_factory.mktemp("allowed").resolve()


@pytest.fixture(scope="session")
def uploads() -> dict[tuple[str, str], Path]:
    """(tenant, file id) -> path of the upload."""
    return {}


@pytest.fixture(scope="session")
def media(root: Path, uploads: dict[tuple[str, str], Path]) -> Iterator[Media]:
    """Decoders with limits that a test can meet."""

    def read_upload(tenant_id: str, file_id: str) -> Path:
        try:
            return uploads[tenant_id, file_id]
        except KeyError:
            raise NotFound("No such file.") from None

    limits = MediaLimits(
        max_image_bytes=4 << 20,
        max_image_pixels=4_000_000,
        max_frame_pixels=1_000_000,
        max_video_frames=200,
        max_video_seconds=60.0,
        max_video_work_pixels=20_000_000,
        decode_seconds=20.0,
    )
    with Media(limits, [root], read_upload, num_decoders=2) as media:
        yield media


@pytest.fixture
def load(media: Media) -> Load:
    """Decode one medium for the default tenant."""

    def load(
        kind: MediaKind, source: bytes | str | Path, needs: MediaNeeds = NEEDS, **wishes: float
    ) -> Decoded:
        return media.load(ref_to(kind, source, **wishes), needs, "default")

    return load


@pytest.fixture
def refused(load: Load) -> Refused:
    """The error that a medium meets; it names the part and says what to do."""

    def refused(
        kind: MediaKind, source: bytes | str | Path, needs: MediaNeeds = NEEDS, **wishes: float
    ) -> SluiceError:
        with pytest.raises(SluiceError) as caught:
            load(kind, source, needs, **wishes)
        error = caught.value
        assert error.param == PARAM
        assert error.message.endswith(".")
        assert error.hint
        assert not error.retryable
        return error

    return refused
