"""Why media is refused: fixed codes with our own sentences, so that no foreign exception's text gets out."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import BadMedia, BadRequest, MediaUnavailable, SluiceError, Unavailable

Fact = int | float


@dataclass(frozen=True, slots=True)
class Rule:
    """What a person is told; `message` may name facts in braces."""

    message: str
    hint: str
    error: type[SluiceError] = BadMedia


CONVERT = "Convert the file to a common format, for example with ffmpeg, and send it again."
CHECK_FILE = "Open the file in a viewer: if it plays there, save it again in another format."

RULES: Mapping[str, Rule] = {
    "media_url_unsupported": Rule(
        "Media is not read from this kind of address; http:// and https:// are not fetched.",
        "Send it as a data: URI, upload it and name its file id, or give an absolute path or file:// URL "
        "under an allowed folder.",
        BadRequest,
    ),
    "media_kind_unsupported": Rule(
        "The model does not take this kind of media.", "Leave the part out, or name a model that takes it."
    ),
    "media_data_uri_invalid": Rule(
        "The data: URI is not valid.",
        "Write data:<type>/<subtype>;base64, and strict base64 without line breaks.",
    ),
    "media_wrong_kind": Rule(
        "The media is not of the kind that this part of the request promises.",
        "Use image_url for pictures, video_url for clips, and audio_url or input_audio for sounds.",
    ),
    "media_files_disabled": Rule(
        "Local files are not read here: no folder is allowed.",
        "Start the server with --allow-files FOLDER, or send the media as a data: URI or an uploaded file's id.",
        MediaUnavailable,
    ),
    "media_forbidden": Rule(
        "The path is not under an allowed folder.",
        "Move the file under a folder that was given to --allow-files, or send it as a data: URI.",
        MediaUnavailable,
    ),
    "media_symlink": Rule(
        "The path leads through a symbolic link, which is not followed.",
        "Name the real path of the file, under an allowed folder.",
        MediaUnavailable,
    ),
    "media_not_a_file": Rule(
        "The path is not a regular file.", "Name one file of an image, a video or a sound.", MediaUnavailable
    ),
    "media_unavailable": Rule(
        "The file does not exist or cannot be read.", "Check the path or the file id.", MediaUnavailable
    ),
    "media_empty": Rule("The file is empty.", "Send the whole file."),
    "media_too_many_bytes": Rule(
        "The file is larger than {limit_mib:g} MiB.", "Send a smaller or a more strongly compressed file."
    ),
    "media_unrecognized": Rule(
        "The content is not of a format that is read here.",
        "Images: JPEG, PNG, WebP, GIF, BMP, TIFF. Videos: mp4, mov, mkv, webm, avi, ts, GIF. "
        "Sounds: wav, mp3, flac, ogg, opus, m4a, aac, webm.",
    ),
    "media_undecodable": Rule("The file is damaged or incomplete, and cannot be decoded.", CHECK_FILE),
    "media_too_small": Rule(
        "The picture is {width}×{height} pixels; each side needs at least {limit_pixels}.",
        "Send a larger picture.",
    ),
    "media_aspect": Rule(
        "The picture is {width}×{height} pixels; the longer side may be at most {limit_ratio:g} times the shorter.",
        "Crop it, or cut it into several pictures.",
    ),
    "media_too_many_pixels": Rule(
        "The picture has more than {limit_pixels} pixels.", "Scale it down before sending it."
    ),
    "media_too_many_streams": Rule("The file holds more than {limit_streams} streams.", CONVERT),
    "media_decoded_too_large": Rule(
        "The decoded media takes more than {limit_mib:g} MiB.", "Send a smaller picture or a shorter clip."
    ),
    "image_mode_unsupported": Rule(
        "The image stores its pixels in a way that is not read here.",
        "Save it as 8-bit RGB and send it again.",
    ),
    "video_frame_size": Rule(
        "The video's frames have more than {limit_pixels} pixels, or no size at all.",
        "Scale the video down before sending it.",
    ),
    "video_too_many_frames": Rule(
        "The video has more than {limit_frames} frames.", "Cut it into shorter clips."
    ),
    "video_too_long": Rule(
        "The video is longer than {limit_seconds:g} seconds.", "Cut it into shorter clips."
    ),
    "video_too_costly": Rule(
        "The video's frames have more than {limit_pixels} pixels in all.",
        "Send a shorter or a smaller video.",
    ),
    "media_start_beyond_end": Rule(
        "`start` lies beyond the end of this medium, which is {limit_seconds:g} seconds long.",
        "Choose an earlier start.",
    ),
    "audio_too_long": Rule(
        "The sound is longer than {limit_seconds:g} seconds.", "Cut it into shorter pieces."
    ),
    "audio_too_short": Rule("The sound is shorter than {limit_seconds:g} seconds.", "Send a longer piece."),
    "audio_sample_rate": Rule(
        "The sound has {rate} samples a second; between {lowest} and {highest} are read.", CONVERT
    ),
    "audio_channels": Rule(
        "The sound has more than {limit_channels} channels.", "Mix it down to stereo or mono."
    ),
    "audio_not_finite": Rule("The sound holds numbers that are not finite.", CONVERT),
    "media_decode_memory": Rule(
        "Decoding the file takes too much memory.", "Send a smaller or a shorter one."
    ),
    "media_decode_timeout": Rule(
        "Decoding the file took longer than {limit_seconds:g} seconds.", "Send a smaller or a shorter one."
    ),
    "media_decode_crashed": Rule("The file made its decoder crash.", CHECK_FILE),
    "media_decoder_unavailable": Rule(
        "The media decoders are starting again.", "Send the request again.", Unavailable
    ),
}


class Refusal(Exception):
    """One medium is refused. `facts` fill the sentence; they are numbers, so a child cannot smuggle text."""

    def __init__(self, code: str, **facts: Fact) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts

    def as_error(self, param: str) -> SluiceError:
        """The error that the request fails with; `param` is the part's place in the request."""
        rule = RULES[self.code]
        return rule.error(self.sentence(), param=param, code=self.code, hint=rule.hint)

    def sentence(self) -> str:
        """What happened, with its figures. Raises KeyError for a figure that is missing."""
        return RULES[self.code].message.format(**self.facts)
