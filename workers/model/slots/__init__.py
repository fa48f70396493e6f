"""One row of every layer's memory per running request, and all else that a running row carries."""
