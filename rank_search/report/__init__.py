"""What a finished study looks like: figures, tables, a page and a summary for programs."""
