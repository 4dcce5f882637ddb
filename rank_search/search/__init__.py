"""What to train next: the loop, its queue and records; proposals by samplers; rivals; repeats."""
