"""The Optuna study: storage, samplers, baselines, leases and the ask/tell loop."""
