"""The certificate: one row per comparison, printed as it comes, and a verdict over all."""

import contextlib
import math
import sys
import time
import traceback

from jevons import CommandFailed


class Certificate:
    """Collects rows. A row passes when its error is a number and at most its bound."""

    def __init__(self):
        self.passed, self.failed = 0, []
        self._case = None
        self._begun = time.monotonic()
        print(f"{'case':<26} {'what':<42} {'max error':>12} {'bound':>9}  verdict")

    def row(self, case, what, error, bound, note=""):
        """One comparison. error, bound: numbers in the same unit; note: what else the reader wants to know."""
        ok = not math.isnan(error) and error <= bound
        self._print(case, what, f"{error:.3g}", f"{bound:.3g}", "pass" if ok else "FAIL", note)
        self._count(ok, case, what)

    def verdict(self, case, what, problem, note=""):
        """A yes or no: problem is "" where all is well."""
        self._print(case, what, "", "", "FAIL" if problem else "pass", problem or note)
        self._count(not problem, case, what)

    def remark(self, case, what, value, note=""):
        """A measured number that nothing hangs on, such as the yardstick of a bound."""
        self._print(case, what, f"{value:.3g}" if isinstance(value, float) else str(value), "", "", note)

    @contextlib.contextmanager
    def guard(self, case):
        """A case that breaks off is one failed row; the others go on."""
        try:
            yield
        except CommandFailed as error:
            self.verdict(case, "runs to its end", str(error))
        except Exception as error:  # whatever it is, it is a failure of this case, not of the certificate
            traceback.print_exc()
            self.verdict(case, "runs to its end", f"{type(error).__name__}: {error}")

    def finish(self):
        """Prints the total; returns the exit code."""
        for case, what in self.failed:
            print(f"failed: {case}: {what}")
        print(f"{self.passed} passed, {len(self.failed)} failed  ({time.monotonic() - self._begun:.0f} s)")
        return 1 if self.failed else 0

    def _count(self, ok, case, what):
        if ok:
            self.passed += 1
        else:
            self.failed.append((case, what))

    def _print(self, case, what, error, bound, verdict, note):
        shown = "" if case == self._case else case
        self._case = case
        print(f"{shown:<26} {what:<42} {error:>12} {bound:>9}  {verdict}{'  ' if verdict and note else ''}{note}")
        sys.stdout.flush()
