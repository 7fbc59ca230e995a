"""What can go wrong, as a tree.

::

    MLCalcError                  anything this package refuses; its message is meant for the user
    ├── ConfigError              a configuration file or option
    ├── DataError                labelled structures: missing, implausible or inconsistent labels
    ├── StructureError           a structure that no model can be evaluated on (empty, NaN, overlapping)
    ├── SpeciesError             an element that the model does not know
    ├── ModelError               a model that breaks its contract, or one that the registry does not know
    │   └── NotFittedError       a model that must be solved first
    ├── CheckpointError          a checkpoint file: foreign, corrupt, truncated, too new
    └── NumericalError           NaN or Inf where numbers are needed

Every message says what was asked, what was found, what was expected and what to do.  The command line prints it
as one line and exits with status 1.
"""


class MLCalcError(Exception):
    """Anything that this package refuses."""


class ConfigError(MLCalcError):
    """A configuration file, key or option that cannot be used."""


class DataError(MLCalcError):
    """Labelled structures that cannot be used as asked."""


class StructureError(MLCalcError):
    """A structure that no model can be evaluated on."""


class SpeciesError(MLCalcError):
    """An element that the model does not know."""


class ModelError(MLCalcError):
    """A model that breaks its contract or that is not registered."""


class NotFittedError(ModelError):
    """A closed-form model was evaluated before it was solved."""


class CheckpointError(MLCalcError):
    """A checkpoint that cannot be read."""


class NumericalError(MLCalcError):
    """NaN or Inf where numbers are needed."""
