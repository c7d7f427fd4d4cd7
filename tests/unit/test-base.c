#include "tap.h"

#include "base/buf.h"

int main(void)
{
    struct buf b = BUF_INIT(8);
    ok(buf_append(&b, "12345678", 8) == 0, "a buffer takes its maximum");
    ok(buf_append(&b, "9", 1) < 0 && b.len == 8, "and no byte more");
    buf_done(&b);
    return tap_end();
}
