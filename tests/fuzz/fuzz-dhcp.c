/* Any bytes as a server's answer: only one to this card and transaction is taken. */
#include "fuzz.h"

#include "guest/dhcp.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t mac[6] = {0x02, 'm', 'v', 'm', 0, 1};
    static const uint8_t other[6] = {0x02, 'm', 'v', 'm', 0, 2};
    struct dhcp_lease l;
    uint8_t type;
    uint32_t transaction = 0x6d766d21;
    int r = dhcp_parse(data, size, mac, transaction, &type, &l);
    MUST(r == 0 || r == -EBADMSG);
    if (r < 0)
        return 0;
    MUST(type && l.prefix <= 32);
    MUST(dhcp_parse(data, size, other, transaction, &type, &l) == -EBADMSG);
    MUST(dhcp_parse(data, size, mac, transaction + 1, &type, &l) == -EBADMSG);
    return 0;
}
