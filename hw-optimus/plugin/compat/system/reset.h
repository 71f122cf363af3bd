#include "sysemu/reset.h"
