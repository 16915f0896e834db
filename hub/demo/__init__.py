"""`manage.py demo`: trains and serves a real model, and measures what training improved."""
