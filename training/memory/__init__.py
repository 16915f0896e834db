"""The memory a run needs: estimated, corrected by measurements, and whether it fits now."""
