"""Rows of a data set's files as they come: JSON, CSV, Parquet, perhaps compressed. Knows nothing of
what an example should hold, and no Django.
"""
