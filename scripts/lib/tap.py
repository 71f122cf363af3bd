# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of unittest as TAP, and as scripts/check shows them."""

import collections
import os
import sys
import unittest

# Set by scripts/check, which has got all that a test may lack
COMPLETE = "VFIO_OPTIMUS_COMPLETE" in os.environ

figures = collections.Counter()     # what a test counts, for its last line


class TapResult(unittest.TestResult):
    """A line for each test when it has ended: not ok if it or one of its subtests
    failed.  What went wrong is on standard error."""

    out = None
    number = failures_told = errors_told = skips_told = 0

    def stopTest(self, test):
        super().stopTest(test)
        self.tell(test)

    def addError(self, test, error):
        super().addError(test, error)
        self.tell_if_class(test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.tell_if_class(test)

    def tell_if_class(self, test):
        """What happens in setUpClass is not followed by stopTest."""
        if not isinstance(test, unittest.TestCase):
            self.tell(test)

    def tell(self, test):
        faults = self.failures[self.failures_told:] + self.errors[self.errors_told:]
        skips = self.skipped[self.skips_told:]
        self.failures_told, self.errors_told = len(self.failures), len(self.errors)
        self.skips_told = len(self.skipped)
        for which, text in faults:
            print(f"{which.id()}: {text}", file=sys.stderr)
        self.number += 1
        print("not ok" if faults else "ok", self.number, "-",
              test.id().removeprefix("__main__."),
              *(f"# SKIP {reason}" for _, reason in skips[:1]),
              file=self.out, flush=True)


def lacking(what):
    """Skip the test that calls this, or let it fail if nothing may be lacking."""
    reason = f"needs {what}"
    raise AssertionError(reason) if COMPLETE else unittest.SkipTest(reason)


def need(path):
    """PATH, if something is there."""
    if not path or not os.path.exists(path):
        lacking(f"{path or 'a QEMU'}: run scripts/check")
    return path


def tap_main(module, tests=()):
    """Run a module's tests, or those that are named, and print TAP.

    The last line is what scripts/check shows: what was counted, and where."""
    TapResult.out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)       # all else that is printed is no result

    class Runner:
        def run(self, suite):
            result = TapResult()
            suite.run(result)
            print(f"1..{result.number}", file=result.out)
            return result

    done = unittest.main(module, argv=[sys.argv[0], *tests], testRunner=Runner(),
                         exit=False).result
    if figures:
        names = [os.path.basename(arg) for arg in sys.argv[:2]]
        print("# figures:", *names, ", ".join(
            f"{name}: {number}" for name, number in figures.items()), file=done.out)
    done.out.close()
    sys.exit(not done.wasSuccessful() or not done.number)
