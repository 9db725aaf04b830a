"""What the files of micro benches are told: whether to be quick, and the seed."""

import pytest

from bench.scenario import SEED, Options


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("micro benches")
    group.addoption("--quick", action="store_true", help="fewer of everything")
    group.addoption("--seed", type=int, default=SEED)


@pytest.fixture(scope="session")
def options(pytestconfig: pytest.Config) -> Options:
    return Options(pytestconfig.getoption("quick"), pytestconfig.getoption("seed"))
