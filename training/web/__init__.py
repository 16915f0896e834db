"""All of training that speaks HTTP: pages, JSON API, live events, forms and what they show."""
