"""Versions: numbered, begun with their lineage, completed; and compared or drawn afterwards."""
