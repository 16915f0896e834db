"""From one file to examples: its rows and mistakes, read in this process or in a child with limits, and
the reader of all files of a data set.
"""
