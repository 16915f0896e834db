"""The items: what each of them measures, and what it takes to be right."""
