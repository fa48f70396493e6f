"""The Celery processes: the only place with tensors."""
