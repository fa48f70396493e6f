"""Alembic migrations; `python -m migrations` brings DATABASE_URL up to date."""
