#include "exec/address-spaces.h"
