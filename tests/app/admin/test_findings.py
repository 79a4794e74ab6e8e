from app.admin import findings
from app.admin.findings import Finding, Level


def test_findings_of_each_level() -> None:
    assert findings.fine("disk", "70 GB") == Finding("disk", Level.ok, "70 GB", "")
    assert findings.warning("disk", "1 GB", "Free some.").level is Level.warning
    assert findings.problem("disk", "0 GB", "Free some.").level is Level.problem
