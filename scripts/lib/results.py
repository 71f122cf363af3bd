#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Say how the tests went: results.py LOGS STATUS, with the folder of meson's logs
and meson's own exit status.

Names what was counted, what failed and what was skipped; the last line is
"N passed, N failed".  Exit status: 0 if none failed and there were any, else 1.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as tree


def main():
    logs, status = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    text = (logs / "testlog.txt").read_text(errors="replace")
    for figures in re.findall("^# figures: (.*)", text, re.M):
        print(f"    {figures}")
    passed = failed = 0
    skipped = []
    # which has what programs wrote, and XML has no control characters
    junit = re.sub(rb"[\0-\x08\x0b\x0c\x0e-\x1f]", b"?",
                   (logs / "testlog.junit.xml").read_bytes())
    for suite in tree.fromstring(junit).iter("testsuite"):
        bad = 0
        for case in suite.iter("testcase"):
            name = f"{suite.get('name')}: {case.get('name')}"
            if case.find("skipped") is not None:
                reason = case.find("skipped").get("message") or ""
                skipped.append(f"skipped: {name} {reason}")
            elif case.find("failure") is not None or case.find("error") is not None:
                print(f"failed: {name}")
                bad += 1
            else:
                passed += 1
        # a program that failed as a whole, after good results
        if not bad and int(suite.get("errors", 0)) + int(suite.get("failures", 0)):
            print(f"failed: {suite.get('name')}")
            bad = 1
        failed += bad
    # which the file does not tell of a program that was killed
    if status and not failed:
        print(f"failed: something, see {logs}/testlog.txt")
        failed = 1
    print(*skipped, sep="\n", end="\n" if skipped else "")
    print(f"{passed} passed, {failed} failed"
          + (f", {len(skipped)} skipped" if skipped else ""))
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
