"""The characters of hypothesis's texts, without asking for a codec: hypothesis would try all of Unicode
with it, which takes two seconds in each process of a new checkout."""

from hypothesis import strategies as st

CHARACTERS = st.characters(exclude_categories=["Cs"])  # what UTF-8 can write
