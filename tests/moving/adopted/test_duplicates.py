from tests.moving.adopted import taking
from tests.neighborhoods import test_duplicates

globals().update(taking.of(test_duplicates))
