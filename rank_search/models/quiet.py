"""Keeps the libraries' own bars and chatter off the screen."""

import optuna
import transformers


def quiet() -> None:
    """Keeps the libraries' own bars and chatter off the screen; warnings stay."""
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
