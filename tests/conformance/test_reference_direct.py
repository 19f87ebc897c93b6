"""The reference server passes all of the official suite: without that, a comparison through the gateway says little."""

import pytest

from tests.conformance.conftest import Inspect
from tests.conformance.suite import LEGS, Leg, list_failures


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
def test_the_reference_server_passes_every_scenario(leg: Leg, reference_url: str, inspect: Inspect) -> None:
    findings = inspect(leg, "direct", reference_url)
    assert list_failures(findings, leg.warnings) == []
    assert sum(check.status == "SUCCESS" for checks in findings.values() for check in checks) == leg.passed
