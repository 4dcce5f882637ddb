"""One file a task: data → batches, loss, and a score with its per-example values."""
