"""`service.wsgi:app`: what a WSGI server loads."""

from service.api.app import create_app

app = create_app()
