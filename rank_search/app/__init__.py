"""The commands as functions: what the Python API and the command line both call."""
