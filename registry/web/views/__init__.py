"""Pages of the registry. The rules live in the functions they call."""
