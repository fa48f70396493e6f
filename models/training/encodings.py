"""Pictures, clips and sounds as files, and what a reader gets back from them."""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from models.training.exam import Video
from models.training.sounds import SAMPLE_RATE

# No random serial numbers, no version of the library: the same media give the same bytes.
REPEATABLE = {"fflags": "+bitexact"}
VIDEO_CONTAINERS = {"libx264": "mp4", "mpeg4": "mp4", "libvpx": "webm", "libvpx-vp9": "webm"}


def picture_bytes(picture: Image.Image, fmt: str, **options: object) -> bytes:
    """The picture as a file of this Pillow format."""
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()


def read_picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def video_bytes(video: Video, codec: str, bit_rate: int = 200_000) -> bytes:
    """The clip as MP4 or WebM; sides must be even."""
    buffer = io.BytesIO()
    rate = Fraction(video.fps).limit_denominator(1000)
    fast = {"deadline": "realtime", "cpu-used": "8"} if "vpx" in codec else {}
    with av.open(buffer, "w", format=VIDEO_CONTAINERS[codec], options=REPEATABLE) as container:
        stream = container.add_stream(codec, rate=rate, options=fast)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = video.frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate, stream.thread_count = "yuv420p", bit_rate, 1
        for frame in video.frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def read_video(data: bytes) -> Video:
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return Video(np.stack(frames), float(stream.average_rate or 1))


def gif_bytes(video: Video) -> bytes:
    """The clip as an animated GIF; Pillow merges frames that are equal."""
    buffer = io.BytesIO()
    frames = [Image.fromarray(frame) for frame in video.frames]
    duration = round(1000 / video.fps)
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return buffer.getvalue()


def read_gif(data: bytes) -> Video:
    frames, milliseconds = [], 0
    with Image.open(io.BytesIO(data)) as gif:
        for i in range(getattr(gif, "n_frames", 1)):
            gif.seek(i)
            frames.append(np.asarray(gif.convert("RGB")))
            milliseconds += int(gif.info.get("duration", 100))
    return Video(np.stack(frames), 1000 * len(frames) / max(milliseconds, 1))


def sound_bytes(samples: np.ndarray, container: str, codec: str, rate: int, bit_rate: int = 0) -> bytes:
    """The sound (float32 at 16 kHz) as a mono file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=REPEATABLE) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.codec_context.open()
        resampler = av.AudioResampler(
            stream.codec_context.format.name, "mono", rate, frame_size=stream.codec_context.frame_size or None
        )
        for frame in (_frame(samples, SAMPLE_RATE), None):
            for piece in resampler.resample(frame):
                out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def read_sound(data: bytes) -> np.ndarray:
    """Decode to float32 at 16 kHz."""
    with av.open(io.BytesIO(data), "r") as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        pieces = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
        pieces += resampler.resample(None)
    return np.concatenate([piece.to_ndarray().reshape(-1) for piece in pieces]).astype(np.float32)


def _frame(samples: np.ndarray, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    return frame
