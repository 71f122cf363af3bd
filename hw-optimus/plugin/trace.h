#include "trace-optimus.h"
