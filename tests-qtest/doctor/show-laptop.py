#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Print what the doctor says of a laptop that is made of files, for README.md:
show-laptop.py VBIOS"""

import doctor_case


class Laptop(doctor_case.DoctorTest):

    def runTest(self):
        print(self.run_doctor(doctor_case.intel_laptop()).stdout, end="")


if __name__ == "__main__":
    Laptop.setUpClass()
    laptop = Laptop()
    laptop.setUp()
    laptop.runTest()
    laptop.tearDownClass()
