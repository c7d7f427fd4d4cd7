/* What carries the channel: a console's port where there is one, else a virtio socket. */
#include "testguest.h"

static bool on_vsock;

bool port_begin(void)
{
    if (console_begin("mvm.agent"))
        return true;
    on_vsock = vsock_begin();
    return on_vsock;
}

bool port_input(void (*take)(const void *p, size_t n))
{
    return on_vsock ? vsock_input(take) : console_input(take);
}

bool port_was_reset(void)
{
    return on_vsock && vsock_was_reset();
}

size_t port_output(const void *p, size_t n)
{
    return on_vsock ? vsock_output(p, n) : console_output(p, n);
}

bool port_is_empty(void)
{
    return on_vsock ? vsock_is_empty() : console_is_empty();
}

bool port_has_news(void)
{
    return on_vsock ? vsock_has_news() : console_has_news();
}
