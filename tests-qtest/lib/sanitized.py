# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU with a plugin that was compiled with AddressSanitizer, LeakSanitizer and
UndefinedBehaviorSanitizer.  QEMU itself is the distribution's."""

import os
import re
import shutil
import subprocess
import tempfile

from machine import PLUGINS, unpacked

# The exit status stays QEMU's, whatever leaks; errors end it by SIGABRT.
# Only the slow unwinder gets beyond glib, which has no frame pointers; each frame
# of an allocation costs, and ours is among the first.
OPTIONS = ("exitcode=0:abort_on_error=1:detect_leaks=1:print_stacktrace=1:"
           "fast_unwind_on_malloc=0:malloc_context_size=10:"
           'stack_trace_format="    #%n in %f %S %m"')

# QEMU frees a former view of memory in another thread, if it comes to that.
LATE = "memory_region_transaction_commit"


def run_directly(emulator, folder):
    """A script in FOLDER that runs the QEMU of the directory EMULATOR not through
    its dynamic linker, which the sanitizers would take for the program and know
    no function of QEMU's: through a copy that has the linker and the libraries."""
    qemu = unpacked(emulator)
    copy = shutil.copy(qemu.program, folder)
    subprocess.run(["patchelf", "--set-interpreter", qemu.linker, "--force-rpath",
                    "--set-rpath", qemu.libraries, copy], check=True)
    os.symlink(os.path.join(os.path.dirname(qemu.program), "qemu-bundle"),
               os.path.join(folder, "qemu-bundle"))
    script, count = re.subn("^exec .* \"\\$program\"", f"exec '{copy}'", qemu.script,
                            flags=re.M)
    if count != 1:
        raise RuntimeError(f"the script in {emulator} has changed")
    return write_program(os.path.join(folder, "emulator"), script)


def write_program(path, text):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)
    return path


class Sanitized:
    """The QEMU of the directory EMULATOR with the plugin DEVICE (vfio-optimus,
    test-optimus or test-nohotplug), of the directory MODULES or of those that
    were built: self.program; and what it reports."""

    def __init__(self, emulator, device, modules=None):
        self.modules = modules or PLUGINS
        self.name = f"sanitized-{device}"
        self.folder = tempfile.TemporaryDirectory()
        os.chmod(self.folder.name, 0o777)
        library = subprocess.run(["cc", "-print-file-name=libasan.so"],
                                 check=True, capture_output=True, text=True)
        options = f"{OPTIONS}:log_path={self.folder.name}/log"
        self.program = write_program(
            os.path.join(self.folder.name, "qemu"), f"""#!/bin/sh
export ASAN_OPTIONS='{options}':$ASAN_OPTIONS
export UBSAN_OPTIONS='{options}'
export G_SLICE=always-malloc
export LD_PRELOAD='{library.stdout.strip()}'
exec '{run_directly(emulator, self.folder.name)}' \\
    -plugin '{self.modules}/{self.name}.so' "$@"
""")

    def findings(self):
        """What the sanitizers found in our code since the last call, when no
        QEMU runs.  A leak is ours if one of our functions is in its stack."""
        found = []
        for name in sorted(os.listdir(self.folder.name)):
            if not name.startswith("log."):
                continue
            path = os.path.join(self.folder.name, name)
            with open(path, errors="replace") as log:
                text = log.read()
            os.unlink(path)
            if re.search("ERROR: AddressSanitizer|runtime error:|fatal error",
                         text):
                found.append(text)
                continue
            found += [block for block in text.split("\n\n")
                      if "leak of" in block and LATE not in block
                      and self.name in block]
        return found
