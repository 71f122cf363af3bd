#include "exec/memory.h"
