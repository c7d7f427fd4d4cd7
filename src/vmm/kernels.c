/* What is said of a kernel that a backend cannot boot. */
#include "vmm/vmm.h"

#include <errno.h>
#include <stdio.h>

int vmm_refuse_kernel(unsigned offers, const char *wants, struct mvm_error *err)
{
    char text[96] = "nothing";
    size_t len = 0;
    for (enum kernel_offer o = 0; o < KERNEL_OFFERS; o++)
        if (offers & KERNEL_OFFER(o))
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? ", " : "", kernel_offer_name(o));
    mvm_error_set(err, -ENOTSUP, "the image's kernel offers %s: %s", text, wants);
    mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    mvm_error_hint(err,
                   "use a kernel that has them; kernel_offers in image.json says what it has (docs/architecture.md)");
    return -ENOTSUP;
}
