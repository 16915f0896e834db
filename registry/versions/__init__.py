"""Versions: numbered, started with their lineage, completed; compared and drawn afterwards."""
