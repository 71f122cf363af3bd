#include "hw/pci/pci.h"
