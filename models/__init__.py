"""The bundled model, and the code that trains it."""
