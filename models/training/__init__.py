"""Trains the bundled tiny Gemma 4 from scratch on pictures, clips and sounds that it draws itself."""
