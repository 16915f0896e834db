"""Django's PostgreSQL backend, with what both databases of the hub have in common."""
