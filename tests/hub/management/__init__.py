"""How commands start and fail."""
