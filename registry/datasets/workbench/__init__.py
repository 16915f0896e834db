"""Single rows of a data set: what is wrong with each, pages of them, and fixes that make the next
revision, in which every row remembers where it came from."""
