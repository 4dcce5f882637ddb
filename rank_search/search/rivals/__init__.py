"""Rivals as candidates: when each is trained, and which maps truncations of a large adapter have."""
