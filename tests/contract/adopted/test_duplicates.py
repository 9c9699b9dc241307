from .. import test_duplicates
from . import taking

globals().update(taking.of(test_duplicates))
