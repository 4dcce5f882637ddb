"""The chosen map, written into the configs that people train and serve with."""
