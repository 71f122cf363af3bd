/*
 * The version of the project
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef OPTIMUS_VERSION_H
#define OPTIMUS_VERSION_H

/* As in "0.2.0 (v0.2.0-3-g1234abc)": the commit is where it is known. */
extern const char optimus_version[];

#endif
