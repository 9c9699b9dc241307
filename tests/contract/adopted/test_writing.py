from .. import test_writing
from . import taking

globals().update(taking.of(test_writing))
