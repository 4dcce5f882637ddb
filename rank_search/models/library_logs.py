"""Silences the log messages and progress bars of libraries."""

import optuna
import transformers


def silence_library_logs() -> None:
    """Turns off progress bars and informational log messages of transformers and Optuna."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
