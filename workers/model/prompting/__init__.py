"""From messages and media to the tensors of one request, and from tokens back to text."""
