from tests.moving.adopted import taking
from tests.search import test_neighbors

globals().update(taking.of(test_neighbors))
