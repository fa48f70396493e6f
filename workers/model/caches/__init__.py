"""What was computed before and is used again: beginnings of prompts, and outputs of the towers."""
