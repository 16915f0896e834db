"""`manage.py doctor --self-test`: measures this machine against what the hub promises, in one JSON
that holds no prompts, names or paths."""
