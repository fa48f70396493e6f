"""Beside `front_door`, so that the folders below can import it."""
