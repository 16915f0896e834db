"""The models in memory: loaded, pinned, verified, evicted, beside what training takes."""
