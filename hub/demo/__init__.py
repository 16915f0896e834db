"""`manage.py demo`: the main job from end to end, and the measure of what it gained."""
