#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Read virt-manager's XML tab, and type into it, through AT-SPI, the interface that
screen readers use.

usage: xml-tab.py BEFORE [AFTER HOSTDEV QEMU]

BEFORE gets the text of the tab.  With HOSTDEV, the XML in that file is added to
<devices> and that in QEMU to <domain>; "Apply" is pressed, and AFTER gets the text
that the tab shows then."""

import sys
import time

import gi
gi.require_version("Atspi", "2.0")
from gi.repository import Atspi  # noqa: E402

NAMESPACE = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def below(node):
    yield node
    for i in range(node.get_child_count()):
        child = node.get_child_at_index(i)
        if child:
            yield from below(child)


def find(role, name):
    """What virt-manager shows of that role, with NAME in its name."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            for node in below(Atspi.get_desktop(0)):
                if node.get_role_name() == role and name in (node.get_name() or "") \
                        and node.get_state_set().contains(Atspi.StateType.SHOWING):
                    return node
        except gi.repository.GLib.Error:
            pass                # it is gone already
        time.sleep(0.5)
    for node in below(Atspi.get_desktop(0)):
        print(node.get_role_name(), repr(node.get_name()))
    sys.exit(f"xml-tab.py: virt-manager shows no {role} '{name}'")


def text():
    editor = find("text", "XML editor")
    return Atspi.Text.get_text(editor, 0, Atspi.Text.get_character_count(editor))


def save(path):
    with open(path, "w") as out:
        out.write(text())


def main():
    tab = find("page tab", "XML")
    Atspi.Selection.select_child(tab.get_parent(), tab.get_index_in_parent())
    time.sleep(1)
    save(sys.argv[1])
    if len(sys.argv) == 2:
        return
    hostdev, qemu = (open(path).read() for path in sys.argv[3:])
    new = text().replace("<domain ", f"<domain {NAMESPACE} ", 1)
    new = new.replace("</devices>", hostdev + "\n</devices>")
    new = new.replace("</domain>", qemu + "\n</domain>")
    Atspi.EditableText.set_text_contents(find("text", "XML editor"), new)
    time.sleep(1)
    Atspi.Action.do_action(find("push button", "pply"), 0)
    time.sleep(3)
    save(sys.argv[2])


if __name__ == "__main__":
    main()
