"""Stand-ins for `work_on`."""

from contextlib import closing
from functools import wraps


def as_context(generator):
    """A function that generates `Done`, as `work_on` hands them out: in a context whose end closes the generator."""

    @wraps(generator)
    def opened(*args, **options):
        return closing(generator(*args, **options))

    return opened
