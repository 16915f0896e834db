"""Template tags: numbers, times and names as pages show them."""
