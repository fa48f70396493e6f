"""Bring the configured database up to date."""

import sys

from service.errors import ConfigurationError
from service.settings import Settings
from service.store.schema import migrate

try:
    migrate(Settings().database_url)
except ConfigurationError as error:
    sys.exit(f"{error.message} {error.hint or ''}".strip())
