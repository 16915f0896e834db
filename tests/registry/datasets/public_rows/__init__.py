"""Rows as popular public data sets have them: taken for what they mean, with every column that is
not used named, or refused in a sentence. None is learned as something else unsaid."""
