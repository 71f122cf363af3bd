/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu.h"
#include "aml-terms.h"
