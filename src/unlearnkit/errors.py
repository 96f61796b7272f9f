"""Every error and warning the library raises on purpose.

One class per thing a caller may want to handle; the text says what was expected, what came, and the way out.
"""


class UnlearnkitError(Exception):
    """Base of all errors below, so that one `except` catches what the library refuses."""


class DataError(UnlearnkitError, ValueError):
    """Rows, files or data sets that cannot be used as asked."""


class NeedError(UnlearnkitError, ValueError):
    """A need that cannot be served: label statistics where there are no labels, a need nobody asked for."""


class MissingModelError(UnlearnkitError, LookupError):
    """A need names a model or recording that was not given."""


class RecordingError(UnlearnkitError, ValueError):
    """A recording that lacks an entry, does not match the data or the model, or cannot serve a need."""


class AnatomyError(UnlearnkitError, ValueError):
    """An architecture whose parts cannot be located."""


class VocabularyError(UnlearnkitError, ValueError):
    """Labels outside the vocabulary, or a tokenizer and a model that do not belong together."""


class LossError(UnlearnkitError, ValueError):
    """An objective whose terms cannot be combined or counted."""


class NonFiniteError(UnlearnkitError, ArithmeticError):
    """A loss or gradient that is not finite: raised before the optimizer step."""


class GradientError(UnlearnkitError, RuntimeError):
    """A trainable tensor that received no gradient: raised before the first optimizer step."""


class CheckpointError(UnlearnkitError, OSError):
    """An output folder that is in use, or a weights file that is truncated or foreign."""


class ParallelError(UnlearnkitError, RuntimeError):
    """Processes that cannot work together: not launched, started with different weights, or one of them lost."""


class PlanError(UnlearnkitError, ValueError):
    """Numbers of a planned run that cannot be, or that do not belong together."""


class Preempted(SystemExit):
    """The run was asked to stop (SIGTERM), has finished its step and saved it: leaves the process with status 0."""

    def __init__(self, checkpoint: str) -> None:
        super().__init__(0)
        self.checkpoint = checkpoint


class UnlearningWarning(UserWarning):
    """A run that finished but probably did not do what was wanted."""
