"""Executors: where training runs. An executor only trains; the driver keeps the study."""
