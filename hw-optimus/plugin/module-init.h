/*
 * Getting called by a QEMU that was not built with this
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef VFIO_OPTIMUS_MODULE_INIT_H
#define VFIO_OPTIMUS_MODULE_INIT_H

/**
 * call_with_types: have QEMU call @function once, when all its types are there
 *
 * For a constructor of an object that is preloaded.  In a program that is not a
 * QEMU it does nothing.  An object can have one such function.
 */
void call_with_types(void (*function)(void));

#endif
