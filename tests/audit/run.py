"""Known vulnerabilities of the installed packages: ``make audit``.

pip-audit leaves with 0 where its index knows none of the packages, as behind a mirror that has files but no
vulnerabilities. An audit that looked at nothing has not passed: it says so, and leaves with 2.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("audit")
COMMAND = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off", "-f", "json"]
LIMIT_S = 900


def verdict(found: Mapping[str, Any]) -> tuple[int, list[str]]:
    """What a report of pip-audit means.

    Args:
        found: its JSON.

    Returns:
        Exit status (0 fine, 1 vulnerable, 2 not audited) and what to say.
    """
    packages = found["dependencies"]
    skipped = [p for p in packages if "skip_reason" in p]
    looked_at = [p for p in packages if "skip_reason" not in p]
    lines = [
        f"VULNERABLE {p['name']} {p['version']}: {one['id']}, "
        + (f"mended in {', '.join(one['fix_versions'])}" if one.get("fix_versions") else "not mended yet")
        for p in looked_at
        for one in p["vulns"]
    ]
    if not looked_at:
        reason = skipped[0]["skip_reason"] if skipped else "no package is installed"
        return 2, [f"audit NOT RUN: none of {len(packages)} packages could be looked up (the first: {reason})"]
    status = 1 if lines else 0
    if skipped:
        lines.append(f"not looked up: {', '.join(p['name'] for p in skipped)}")
    lines.append(f"audit: {len(looked_at)} of {len(packages)} packages looked up, {'VULNERABLE' if status else 'fine'}")
    return status, lines


def main() -> int:
    """Entry point: 1 with a vulnerable package, 2 where nothing could be looked up."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        status, lines = verdict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        status, lines = 2, [f"audit NOT RUN: no answer within {LIMIT_S} s"]
    except (ValueError, KeyError):
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["pip-audit said nothing"]
        status, lines = 2, [f"audit NOT RUN: {said[-1].strip()[:300]}"]
    for line in lines:
        log.info("%s", line)
    return status


if __name__ == "__main__":
    sys.exit(main())
