"""How models write calls of tools: the notations of mlx-lm's parsers as a table, and grammars that hold a
model to one of them."""
