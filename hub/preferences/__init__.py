"""Settings as people see them: each by a plain name, with where it comes from, and changed where nothing
else sets it. The rules are those of `hub.config`."""
