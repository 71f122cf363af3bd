#include "qemu.h"
