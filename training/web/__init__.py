"""Everything of training that speaks HTTP: pages, JSON API, live events and forms."""
