"""Backups of a hub, restored and verified; its rows moved from one database to another; the copy
that is made before an upgrade."""
