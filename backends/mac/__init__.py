"""What macOS alone has: its readings, its ways to stay awake, its folders.

Every function may be called anywhere: where macOS or a program of it is missing, it does nothing, or
answers as if all were fine.
"""
