"""Jinja put before a chat template that cannot take our messages as they are."""

import json
from collections.abc import Collection

from service.contract.media import MediaKind

# For templates that know only text: every message's parts are joined, a medium as its token.
JOIN_PARTS = """\
{%- set joined = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set parts = namespace(text='') -%}
{%- if message['content'] is string -%}
{%- set parts.text = message['content'] -%}
{%- else -%}
{%- for part in message['content'] or [] -%}
{%- set parts.text = parts.text + ('' if loop.first else '\\n') -%}
{%- if part['type'] == 'image' -%}{%- set parts.text = parts.text + image_token -%}
{%- elif part['type'] == 'video' -%}{%- set parts.text = parts.text + video_token -%}
{%- elif part['type'] == 'audio' -%}{%- set parts.text = parts.text + audio_token -%}
{%- else -%}{%- set parts.text = parts.text + part['text'] -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set joined.messages = joined.messages + [dict(message, content=parts.text)] -%}
{%- endfor -%}
{%- set messages = joined.messages -%}
"""
_SHOW_AS_TEXT = """\
{%- set shown = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- set parts = namespace(all=[]) -%}
{%- if message['content'] is not string -%}
{%- for part in message['content'] or [] -%}
{%- set hidden = part['type'] in hidden_kinds -%}
{%- set text = {'image': image_token, 'video': video_token, 'audio': audio_token}[part['type']] if hidden -%}
{%- set parts.all = parts.all + [{'type': 'text', 'text': text} if hidden else part] -%}
{%- endfor -%}
{%- endif -%}
{%- set shown.messages = shown.messages + [dict(message, content=parts.all) if parts.all else message] -%}
{%- endfor -%}
{%- set messages = shown.messages -%}
"""


def show_as_text(kinds: Collection[MediaKind]) -> str:
    """For templates that pass over some media: such a part becomes text, which is the medium's token."""
    return f"{{%- set hidden_kinds = {json.dumps(sorted(kinds))} -%}}" + _SHOW_AS_TEXT
