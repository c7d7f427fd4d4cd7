/* How a VM ends: what the guest's console says of it, and what clients are told. */
#include "tap.h"

#include "base/macros.h"
#include "supervisor/internal.h"

#include <string.h>

static void says(const char *console, const char *line, const char *what)
{
    static struct lastwords w;
    char out[128];
    w.len = 0;
    lastwords_add(&w, console, strlen(console));
    lastwords_telling(&w, out, sizeof(out));
    ok(strcmp(out, line) == 0, "R6: %s (%s)", what, out);
}

static void test_lastwords(void)
{
    static struct lastwords w;
    static char much[3 * sizeof(w.text)];
    char out[64];
    says("", "", "a console without a word tells nothing");
    says("booting\r\n[    1.5] reboot: Restarting system\r\n\r\n", "reboot: Restarting system",
         "the last line with text tells how a guest ended");
    says("a\n[   12.000001] Kernel panic - not syncing: out of it\r\n[   12.000002] CPU: 0 PID: 1\n",
         "Kernel panic - not syncing: out of it", "a panic tells more than the registers behind it");
    says("[    0.1] int3: 0000 [#1] SMP\r\n[    0.1] CPU: 1\n[    0.1] RIP: 0010:f+0x9/0x20\n[    0.1] RIP: 0033:0x1\n"
         "[    0.1] Kernel panic - not syncing: in interrupt\n",
         "Kernel panic - not syncing: in interrupt (int3: 0000 [#1] SMP, RIP: 0010:f+0x9/0x20)",
         "a panic is told with the exception and the place that it came from");
    says("no end of \x1b[31mline", "no end of  [31mline", "a line is told without its control characters");
    memset(much, 'x', sizeof(much));
    memcpy(much + sizeof(much) - 7, "\nlast\r\n", 7);
    lastwords_add(&w, much, 10);
    for (size_t i = 0; i < sizeof(much); i += 1000)
        lastwords_add(&w, much + i, MIN_OF((size_t)1000, sizeof(much) - i));
    lastwords_telling(&w, out, sizeof(out));
    ok(w.len == sizeof(w.text) && strcmp(out, "last") == 0, "R6: of a long console the end is kept");
    lastwords_add(&w, much, sizeof(much));
    lastwords_telling(&w, out, sizeof(out));
    ok(w.len == sizeof(w.text) && strcmp(out, "last") == 0, "R6: also where it comes at once");
}

static void test_why_gone(void)
{
    static struct supervisor s;
    ok(strcmp(supervisor_why_gone(&s), "the vm is gone") == 0,
       "of a VM that ends without a word it is said that it is gone");
    static const char panic[] = "[    1.0] Kernel panic - not syncing: Fatal exception\n";
    lastwords_add(&s.console, panic, sizeof(panic) - 1);
    ok(strcmp(supervisor_why_gone(&s),
              "the vm is gone; its console ends with: Kernel panic - not syncing: Fatal exception") == 0,
       "and with what its console told");
    s.ending = "the guest powered off";
    ok(strcmp(supervisor_why_gone(&s), s.ending) == 0, "of a guest that announced its end, what it announced");
    s.cut_off = true;
    snprintf(s.status.problem, sizeof(s.status.problem), "it broke the protocol");
    ok(strcmp(supervisor_why_gone(&s), "it broke the protocol") == 0, "of one that was cut off, why");
}

int main(void)
{
    test_lastwords();
    test_why_gone();
    return tap_end();
}
