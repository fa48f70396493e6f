"""What our ids look like. A name of another form is unknown before any database is asked: some cannot hold it."""

import re

_FILE_ID = re.compile(r"file-[0-9a-f]{24}")
_BATCH_ID = re.compile(r"batch_[0-9a-f]{24}")
_KEY_ID = re.compile(r"key_[0-9a-f]{24}")
# Tenants alone are named by people.
TENANT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_TENANT_ID = re.compile(TENANT_ID)
_WEBHOOK_ID = re.compile(r"wh_[0-9a-f]{24}")
_PREFLIGHT_ID = re.compile(r"preflight_[0-9a-f]{24}")


def is_file_id(text: str) -> bool:
    """Whether a file could have this id."""
    return _FILE_ID.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Whether a batch could have this id."""
    return _BATCH_ID.fullmatch(text) is not None


def is_preflight_id(text: str) -> bool:
    """Whether a preflight could have this id."""
    return _PREFLIGHT_ID.fullmatch(text) is not None


def is_webhook_id(text: str) -> bool:
    """Whether a webhook could have this id."""
    return _WEBHOOK_ID.fullmatch(text) is not None


def is_key_id(text: str) -> bool:
    """Whether a key could have this id."""
    return _KEY_ID.fullmatch(text) is not None


def is_tenant_id(text: str) -> bool:
    """Whether a tenant could have this id."""
    return _TENANT_ID.fullmatch(text) is not None
