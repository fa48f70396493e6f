"""How often a cache was of use, and what it holds; read by the metrics from another thread."""

from dataclasses import dataclass


@dataclass(slots=True)
class CacheCounters:
    """hits, misses: prompts. tokens_saved: prompt tokens that were not computed, or not encoded, again."""

    hits: int = 0
    misses: int = 0
    tokens_saved: int = 0
    evictions: int = 0
    bytes_held: int = 0
