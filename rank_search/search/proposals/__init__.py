"""Proposals: samplers over the whole space, and the model of the score that the default one goes by."""
