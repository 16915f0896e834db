"""Long work in a child process: the row that shows it, the child, its progress, its end."""
