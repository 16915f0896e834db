"""What keeps storage in order: verification, the archive, removal of models, and clean-up of
files that no row names."""
