"""Computes: the only room with tensors. The engine decides what to compute."""

from workers.model import libraries as libraries
