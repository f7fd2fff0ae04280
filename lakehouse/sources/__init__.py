"""Where tables and photographs come from, behind one protocol."""

from __future__ import annotations

from lakehouse.sources.open import embedded_directory, open_source, source_name_of

__all__ = ["embedded_directory", "open_source", "source_name_of"]
