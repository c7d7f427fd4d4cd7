#include "vmm/vmm.h"

const struct vmm_ops *const vmm_all[] = {&vmm_vfkit, &vmm_qemu, &vmm_firecracker, NULL};
