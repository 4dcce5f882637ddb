"""Front, hypervolume, choice rules and statistics: pure functions over a table of trials."""
