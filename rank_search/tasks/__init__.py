"""The tasks, one file each: batches from data, the loss, and scores per example."""
