from tests.redis.fixtures import *  # noqa: F403  # fixtures are found by name
