"""The dialects in which files say examples: one table, a reader for each, and what is detected.

Knows neither files nor Django: rows are also read in a process of their own.
"""
