"""Braze and its peers measured side by side; see `docs/performance.md`."""
