"""All of the registry that speaks HTTP: pages, JSON API, forms and what both take and give."""
