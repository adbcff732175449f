"""Run compiled graphs: cache, memory, threads, packages."""
