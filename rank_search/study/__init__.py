"""One study on disk and in Optuna: its folder, its trials' records, its storage, who may work on it."""
