#include "machine/instruction_count.h"
#include "base/fd.h"
#include "base/path.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_LOG (4u << 20)

/* ---- Reading ---- */

/* What the lines say, before it is put together. */
struct marks {
    uint64_t agent, hello, configure, services; /* the counter */
    uint64_t mark, mark_us;                     /* the counter and the kernel's clock at one moment */
    uint64_t run_us;                            /* when the kernel started the first process */
};

/* "initcall NAME+0x0/0x10 returned 0 after 123 usecs" */
static void read_initcall(struct instruction_count *c, const char *text)
{
    struct instruction_initcall i = {0};
    uint64_t us;
    if (sscanf(text, "initcall %79[^+ ]%*s returned %*d after %" SCNu64 " usecs", i.name, &us) != 2)
        return;
    i.instructions = us * 1000;
    c->n_initcalls++;
    c->initcalls += i.instructions;
    unsigned at = c->n_top;
    while (at > 0 && c->top[at - 1].instructions < i.instructions)
        at--;
    if (at == INSTRUCTION_MAX_INITCALLS)
        return;
    if (c->n_top < INSTRUCTION_MAX_INITCALLS)
        c->n_top++;
    memmove(&c->top[at + 1], &c->top[at], (c->n_top - at - 1) * sizeof(c->top[0]));
    c->top[at] = i;
}

static void read_step(struct marks *m, const char *name, uint64_t at)
{
    const struct {
        const char *name;
        uint64_t *at;
    } steps[] = {{"agent", &m->agent}, {"hello", &m->hello}, {"configure", &m->configure}, {"services", &m->services}};
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        if (strcmp(name, steps[i].name) == 0)
            *steps[i].at = at;
}

static void read_line(struct instruction_count *c, struct marks *m, const char *line)
{
    char name[16], text[400];
    uint64_t at;
    if (sscanf(line, "(count) step %15s %" SCNu64, name, &at) == 2)
        read_step(m, name, at);
    if (sscanf(line, "(count) kernel %" SCNu64 " %399[^\n]", &at, text) != 2)
        return;
    if (sscanf(text, "(count) mark %" SCNu64, &m->mark) == 1)
        m->mark_us = at;
    else if (strncmp(text, "Run ", 4) == 0)
        m->run_us = at;
    else
        read_initcall(c, text);
}

int instruction_count_parse(struct instruction_count *ret, const char *text, struct mvm_error *err)
{
    struct instruction_count c = {0};
    struct marks m = {0};
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
        read_line(&c, &m, line);
    if (m.hello == 0)
        return mvm_error_set(err, -EINVAL, "the agent log has no count of instructions");
    c.total = m.hello;
    if (m.services > m.configure && m.configure)
        c.services = m.services - m.configure;
    uint64_t origin = m.mark / 1000 > m.mark_us ? m.mark - 1000 * m.mark_us : 0;
    uint64_t run = origin + 1000 * m.run_us;
    if (origin && m.run_us && run > origin && run < m.hello) {
        c.firmware = origin;
        c.kernel = run - origin;
        c.init = m.hello - run;
    }
    *ret = c;
    return 0;
}

/* ---- Booting ---- */

static int read_log(struct home *h, const char *name, struct instruction_count *ret, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_LOG);
    CLEAN_FD int dir = vmdir_open(h, name, err);
    if (dir < 0)
        return dir;
    int r = path_read_file(dir, VMDIR_AGENT, &text, err);
    if (r == 0)
        r = instruction_count_parse(ret, buf_cstr(&text), err);
    if (r == -EINVAL) {
        r = mvm_error_set(err, -ENOTSUP, "the image's agent does not count instructions");
        mvm_error_hint(err, "build the image again with this mvmctl");
    }
    return r;
}

int instruction_count(struct home *h, const struct machine_config *config, bool initcalls, struct progress *p,
                      struct instruction_count *ret, struct machine_info *ret_info, struct mvm_error *err)
{
    char name[VMDIR_MAX_NAME + 1];
    struct machine_info info;
    struct machine_config c = *config;
    c.name = name;
    c.counting = initcalls ? COUNTING_INITCALLS : COUNTING_ON;
    c.cold = c.transient = true;
    int r = -EEXIST;
    for (int tries = 0; tries < 20 && r == -EEXIST; tries++) {
        r = machine_pick_name(h, "count", name, err);
        if (r == 0)
            r = machine_start(h, &c, p, &info, err);
    }
    if (r < 0)
        return r;
    r = read_log(h, name, ret, err);
    fd_closep(&info.tether);
    (void)!machine_stop(h, name, 0, NULL);
    if (ret_info)
        *ret_info = info;
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    return r;
}
