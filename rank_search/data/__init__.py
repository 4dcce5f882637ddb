"""Reads examples from files, folders and the hub, and splits them into train, validation and test."""
