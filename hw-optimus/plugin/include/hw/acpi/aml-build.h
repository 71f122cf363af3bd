#include "qemu.h"
#include "aml-terms.h"
