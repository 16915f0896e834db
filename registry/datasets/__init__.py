"""Data sets: files are read and checked, split, and kept as snapshots with revisions."""
