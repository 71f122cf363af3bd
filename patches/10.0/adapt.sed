# What QEMU 10.0 has otherwise than 10.2, for the files of vfio-optimus
s,"system/address-spaces\.h","exec/address-spaces.h",
s,"system/memory\.h","exec/memory.h",
s,\(class_init(.*\)const void \*data),\1void *data),
s,(const InterfaceInfo\[\]),(InterfaceInfo[]),
