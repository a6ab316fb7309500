"""`--without PACKAGE`: what cannot import it is skipped, and counted, in the tests and in the documentation of src/."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--without", action="append", default=[], metavar="PACKAGE", help="skip what cannot import it")


def _lacks(config: pytest.Config, problem: object) -> str | None:
    """Why a test that ended with this problem counts as skipped, if it does."""
    missing = (name for name in config.getoption("without") if f"No module named '{name}" in str(problem))
    return next((f"Skipped: {name} is left out (--without): what needs it is NOT tested" for name in missing), None)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    reason = _lacks(collector.config, report.longrepr) if report.failed else None
    if reason:
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, reason)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    reason = _lacks(item.config, call.excinfo.value) if report.failed else None
    if reason:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, reason)
    return report
