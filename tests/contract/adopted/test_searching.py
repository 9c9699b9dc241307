from .. import test_searching
from . import taking

globals().update(taking.of(test_searching))
