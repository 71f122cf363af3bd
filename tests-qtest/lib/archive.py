# SPDX-License-Identifier: GPL-2.0-or-later
"""A small archive of Debian packages, made and signed here, and a server with
faults, for the tests of the scripts."""

import hashlib
import http.server
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
from email.utils import formatdate

SUITES = ["bookworm", "bookworm-updates", "bookworm-backports", "trixie",
          "trixie-backports", "sid", "bookworm-security", "trixie-security"]
CONTENT = "usr/share/content"
SIGNER = "Test <test@localhost>"


def run(*args, **how):
    return subprocess.run([*map(str, args)], check=True, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          **how).stdout


class Archive:
    """In DIR, with the public key in DIR/key."""

    def __init__(self, folder):
        self.dir = folder
        self.pool = folder / "pool"
        self.pool.mkdir()
        # gpg-agent listens in it, and the name of a socket is short
        self.gpg = tempfile.TemporaryDirectory(prefix="gpg.")
        self.sources = ""
        self.key(SIGNER)
        (folder / "key").write_bytes(subprocess.check_output(
            ["gpg", "--homedir", self.gpg.name, "--export"]))

    def key(self, name):
        run("gpg", "--homedir", self.gpg.name, "--batch", "--passphrase", "",
            "--quick-generate-key", name)

    def close(self):
        run("gpgconf", "--homedir", self.gpg.name, "--kill", "gpg-agent")
        self.gpg.cleanup()

    def package(self, name, version="1", depends=None, postinst=None):
        """A package with a file CONTENT.NAME of random bytes."""
        tree = self.dir / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
            + (f"Depends: {depends}\n" if depends else "")
            + "Maintainer: Test <test@localhost>\nDescription: a test\n")
        file = tree / f"{CONTENT}.{name}"
        file.parent.mkdir(parents=True)
        file.write_bytes(os.urandom(200000))
        if postinst:
            script = tree / "DEBIAN/postinst"
            script.write_text(f"#!/bin/sh\nset -e\n{postinst}\n")
            script.chmod(0o755)
        run("dpkg-deb", "--build", "--root-owner-group", tree, self.pool)
        shutil.rmtree(tree)

    def source(self, upstream, revision, folder="pool"):
        """QEMU's source: all that apt looks at, in an index and in FOLDER."""
        tree = self.dir / f"qemu-{upstream}"
        (tree / "pc-bios").mkdir(parents=True)
        (tree / "VERSION").write_text(upstream.split("+")[0] + "\n")
        (tree / "pc-bios/meson.build").write_text("'edk2-x86_64-code.fd'\n")
        (tree / "content").write_bytes(os.urandom(300000))
        file = self.dir / folder / f"qemu_{upstream}.orig.tar.xz"
        file.parent.mkdir(exist_ok=True)
        run("tar", "-cJf", file, tree.name, cwd=self.dir)
        shutil.rmtree(tree)
        data = file.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self.sources += (f"Package: qemu\nVersion: 1:{upstream}-{revision}\n"
                         f"Directory: {folder}\nChecksums-Sha256:\n"
                         f" {digest} {len(data)} {file.name}\n\n")

    def publish(self, signer=SIGNER):
        """Make the indices of what is there."""
        indices = {
            "main/binary-amd64/Packages":
                run("dpkg-scanpackages", "--multiversion", "pool", cwd=self.dir),
            "main/source/Sources": self.sources,
        }
        shutil.rmtree(self.dir / "dists", ignore_errors=True)
        for suite in SUITES:
            self.publish_suite(suite, signer, indices)

    def publish_suite(self, suite, signer, indices):
        top = self.dir / "dists" / suite
        sums = ""
        for name, text in indices.items():
            path = top / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            sums += f" {digest} {len(text)} {name}\n"
        run("gpg", "--homedir", self.gpg.name, "--batch", "--local-user", signer,
            "--clearsign", "--output", top / "InRelease", input=(
                f"Suite: {suite}\nCodename: {suite}\nComponents: main\n"
                f"Architectures: amd64\nDate: {formatdate(usegmt=True)}\n"
                f"SHA256:\n{sums}"))


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        fault = server.fault if re.search(server.where, self.path) else None
        path = server.archive.dir / urllib.parse.unquote(self.path[1:])
        if not path.is_file() or fault == "missing":
            self.send_error(404)
        elif fault != "down":
            self.send_file(path.read_bytes(), fault)
        self.close_connection = True

    def send_file(self, data, fault):
        half = len(data) // 2
        if fault == "portal":
            data = b"<html>Log in to use this network.</html>"
        elif fault == "tampered":
            data = data[:half] + bytes([data[half] ^ 1]) + data[half + 1:]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault in ("cut", "stalled"):
            self.wfile.write(data[:half])
            self.wfile.flush()
            # without a word from then on, as if a cable was pulled out
            self.server.released.wait(90 if fault == "stalled" else 0)
        else:
            time.sleep(0.1 if fault == "slow" else 0)
            self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Serves ARCHIVE; files whose name matches the expression `where` with a
    `fault`."""

    daemon_threads = True

    def __init__(self, archive):
        super().__init__(("127.0.0.1", 0), Handler)
        self.archive = archive
        self.released = threading.Event()
        self.heal()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def fail(self, fault, where="."):
        self.released.clear()
        self.fault, self.where = fault, where

    def heal(self):
        self.fault, self.where, self.requests = None, ".", []
        self.released.set()

    def handle_error(self, *_):
        """apt went away."""

    def settings(self, folder, key):
        """What apt of this machine is to be told by APT_CONFIG, so that it
        takes packages from here, and installs them below FOLDER/system."""
        url = f"[signed-by={key}] http://127.0.0.1:{self.server_port}"
        system = folder / "system"
        for name in ("apt/lists/partial", "dpkg/info", "dpkg/updates", "cache"):
            (system / "var/lib" / name).mkdir(parents=True)
        (system / "var/lib/dpkg/status").touch()
        (folder / "sources.list").write_text(
            f"deb {url} bookworm main\ndeb {url} bookworm-security main\n")
        (folder / "apt.conf").write_text(
            f'Dir::Etc::SourceList "{folder}/sources.list";\n'
            f'Dir::State "{system}/var/lib/apt";\n'
            f'Dir::State::Status "{system}/var/lib/dpkg/status";\n'
            f'Dir::Cache "{system}/var/lib/cache";\nDir::Log "{system}";\n'
            f'DPkg::Options {{"--root={system}"; "--force-script-chrootless"; }};\n'
            'Dir::Etc::SourceParts "/dev/null";\n'
            'Dir::Etc::Parts "/dev/null";\nDir::Etc::Main "/dev/null";\n'
            'Acquire::http::Timeout "1";\nAcquire::Retries::Delay "false";\n'
            'Acquire::http::Proxy "DIRECT";\n')
        return folder / "apt.conf"
