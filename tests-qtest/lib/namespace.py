# SPDX-License-Identifier: GPL-2.0-or-later
"""A mount namespace of its own, for a test that puts something in the place of
what the system has."""

import contextlib
import os
import pathlib
import subprocess
import sys

from tap import lacking

TOP = pathlib.Path(__file__).resolve().parents[2]
# Inside: "root", or "user", who is root in there only.
INSIDE = os.environ.get("TEST_NAMESPACE")
IS_ROOT = INSIDE == "root"


def enter_namespace(prepare=None):
    """Outside, run the shell commands PREPARE, for which $0 is the repository,
    and then this program again inside, from its start.  Inside, do nothing."""
    if INSIDE:
        return
    if prepare:
        subprocess.run(["bash", "-euo", "pipefail", "-c", prepare, TOP],
                       check=True, stdout=2)
    kind = "root" if os.geteuid() == 0 else "user"
    command = ["unshare", "--mount", "--propagation", "private"]
    if kind == "user":
        command.append("--map-root-user")
    if subprocess.run([*command, "true"]).returncode:
        return      # mount() says so
    os.environ["TEST_NAMESPACE"] = kind
    os.execvp(command[0], [*command, sys.executable, *sys.argv])


def mount(*args):
    if not INSIDE:
        lacking("root, or user namespaces")
    subprocess.run(["mount", *map(str, args)], check=True)


@contextlib.contextmanager
def mounted(where, *args):
    mount(*args, where)
    try:
        yield pathlib.Path(where)
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)
