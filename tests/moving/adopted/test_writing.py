from tests.index import test_writes
from tests.moving.adopted import taking

globals().update(taking.of(test_writes))
