/* Programs of the test guest, one by itself or several in the little language of `sh -c`: ; && || & > >> >&2 and
 * quotes. */
#include "testguest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint64_t number(const char *s)
{
    uint64_t v = 0;
    for (; s && *s >= '0' && *s <= '9'; s++)
        v = 10 * v + (uint64_t)(*s - '0');
    return v;
}

static const char *arg(const struct job *j, size_t i)
{
    return i < j->argv.n ? j->argv.v[i] : "";
}

static int print(struct job *j, const char *fmt, ...) MVM_PRINTF(2, 3);
static int print(struct job *j, const char *fmt, ...)
{
    char line[4200];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    return job_write(j, line, MIN_OF((size_t)n, sizeof(line) - 1)) ? 0 : LATER;
}

/* ---- Programs: their exit status, or LATER to be called again ---- */

static int run_true(struct job *j)
{
    return 0;
}

static int run_false(struct job *j)
{
    return 1;
}

static int run_exit(struct job *j)
{
    j->rest = "";
    return (int)number(arg(j, 1)) & 255;
}

static int run_echo(struct job *j)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = 0;
    for (size_t i = 1; r == 0 && i < j->argv.n; i++)
        r = buf_printf(&b, "%s%s", i > 1 ? " " : "", j->argv.v[i]);
    if (r == 0)
        r = buf_str(&b, "\n");
    if (r < 0)
        return 1;
    return job_write(j, b.data, b.len) ? 0 : LATER;
}

static int cat_input(struct job *j)
{
    while (j->in.len) {
        size_t n = MIN_OF(j->in.len, (size_t)FRAME_MAX_PAYLOAD);
        if (!job_write(j, j->in.data, n))
            return LATER;
        job_take(j, n);
    }
    return j->in_ended ? 0 : LATER;
}

static int run_cat(struct job *j)
{
    if (j->argv.n < 2)
        return cat_input(j);
    uint64_t before = 0;
    for (size_t i = 1; i < j->argv.n; i++) {
        const struct file *f = file_find(j->argv.v[i]);
        if (!f || f->folder)
            return 1;
        while (j->at < before + f->data.len) {
            size_t n = MIN_OF(before + f->data.len - j->at, (uint64_t)FRAME_MAX_PAYLOAD);
            if (!job_write(j, f->data.data + (j->at - before), n))
                return LATER;
            j->at += n;
        }
        before += f->data.len;
    }
    return 0;
}

/* flood [N]: that many bytes, or bytes for ever. */
static int run_flood(struct job *j)
{
    static const uint8_t zeros[FRAME_MAX_PAYLOAD];
    uint64_t all = j->argv.n > 1 ? number(arg(j, 1)) : UINT64_MAX;
    while (j->at < all) {
        size_t n = MIN_OF(all - j->at, (uint64_t)sizeof(zeros));
        if (!job_write(j, zeros, n))
            return LATER;
        j->at += n;
        if (all == UINT64_MAX && j->to)
            return 1;
    }
    return 0;
}

static int run_sleep(struct job *j)
{
    if (!j->at)
        j->at = ticks + 1 + number(arg(j, 1)) * (1000 / TICK_MS);
    return job_wait(j->at) ? 0 : LATER;
}

/* count FILE: a line more every 50 ms, for ever. */
static int run_count(struct job *j)
{
    struct file *f = file_find(arg(j, 1));
    if (!f && !(f = file_make(arg(j, 1), 0644, false)))
        return 1;
    if (job_wait(j->at)) {
        (void)!buf_str(&f->data, "\n");
        j->at = ticks + 50 / TICK_MS;
    }
    (void)job_wait(j->at);
    return LATER;
}

static int run_lines(struct job *j)
{
    const struct file *f = file_find(arg(j, 1));
    unsigned n = 0;
    for (size_t i = 0; f && i < f->data.len; i++)
        n += f->data.data[i] == '\n';
    return f ? print(j, "%u\n", n) : 1;
}

/* test -e FILE, test -s FILE */
static int run_test(struct job *j)
{
    const struct file *f = file_find(arg(j, 2));
    return f && (strcmp(arg(j, 1), "-e") == 0 || f->data.len) ? 0 : 1;
}

static int run_rm(struct job *j)
{
    struct file *f = file_find(arg(j, 1));
    if (!f)
        return 1;
    file_remove(f);
    return 0;
}

static int run_ls(struct job *j)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    for (const struct file *f = file_first(); f; f = f->next)
        if (buf_printf(&b, "%s%s\n", f->path, f->folder ? "/" : "") < 0)
            return 1;
    return job_write(j, b.data, b.len) ? 0 : LATER;
}

static int run_stat(struct job *j)
{
    const struct file *f = file_find(arg(j, 1));
    if (!f)
        return 1;
    return print(j, "%u%u%u %zu\n", f->mode >> 6 & 7, f->mode >> 3 & 7, f->mode & 7, f->data.len);
}

/* fill FILE N: N bytes that nothing makes smaller, from the seed on. */
static int run_fill(struct job *j)
{
    struct file *f = file_make(arg(j, 1), 0644, false);
    uint64_t n = number(arg(j, 2)), x = seed | 1;
    if (!f || buf_reserve(&f->data, n) < 0)
        return 1;
    for (f->data.len = 0; f->data.len < n; f->data.len += sizeof(x)) {
        x = x * 6364136223846793005u + 1442695040888963407u; /* Knuth, TAOCP 3.3.4 */
        memcpy(f->data.data + f->data.len, &x, MIN_OF(n - f->data.len, (uint64_t)sizeof(x)));
    }
    f->data.len = n;
    return 0;
}

static int run_ps(struct job *j)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    for (const struct job *x = jobs_first(); x; x = x->next)
        if (buf_printf(&b, "%s\n", arg(x, 0)) < 0)
            return 1;
    return job_write(j, b.data, b.len) ? 0 : LATER;
}

static int run_hostname(struct job *j)
{
    return print(j, "%s\n", hostname);
}

static int run_seed(struct job *j)
{
    return print(j, "%llx\n", (unsigned long long)seed);
}

static int run_date(struct job *j)
{
    return print(j, "%llu\n", (unsigned long long)(wall_clock_ns() / 1000000000));
}

static int run_uptime(struct job *j)
{
    return print(j, "%llu\n", (unsigned long long)uptime_ms());
}

/* say WORD...: on the console. */
static int run_say(struct job *j)
{
    for (size_t i = 1; i < j->argv.n; i++)
        say("%s%s", i > 1 ? " " : "", j->argv.v[i]);
    say("\n");
    return 0;
}

static int run_env(struct job *j)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    for (size_t i = 0; i < j->exec.env.n; i++)
        if (buf_printf(&b, "%s\n", j->exec.env.v[i]) < 0)
            return 1;
    return job_write(j, b.data, b.len) ? 0 : LATER;
}

static int run_crash(struct job *j)
{
    say("Kernel panic - not syncing: a program asked for it\n");
    machine_reset();
}

static int run_reset(struct job *j)
{
    machine_reset();
}

static int run_halt(struct job *j)
{
    machine_halt();
}

static int run_poweroff(struct job *j)
{
    agent_end(ENDING_OFF);
    return 0;
}

static int run_reboot(struct job *j)
{
    agent_end(ENDING_RESTART);
    return 0;
}

static int run_babble(struct job *j)
{
    port_output("no frame", 8);
    return LATER;
}

static const struct {
    const char *name;
    int (*run)(struct job *j);
} programs[] = {
    {"true", run_true},
    {"false", run_false},
    {"exit", run_exit},
    {"echo", run_echo},
    {"cat", run_cat},
    {"flood", run_flood},
    {"sleep", run_sleep},
    {"count", run_count},
    {"lines", run_lines},
    {"test", run_test},
    {"rm", run_rm},
    {"ls", run_ls},
    {"stat", run_stat},
    {"hostname", run_hostname},
    {"seed", run_seed},
    {"date", run_date},
    {"say", run_say},
    {"uptime", run_uptime},
    {"env", run_env},
    {"crash", run_crash},
    {"reset", run_reset},
    {"halt", run_halt},
    {"poweroff", run_poweroff},
    {"fill", run_fill},
    {"ps", run_ps},
    {"babble", run_babble},
    {"reboot", run_reboot},
};

static int run_program(struct job *j)
{
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
        if (strcmp(programs[i].name, j->argv.v[0]) == 0)
            return programs[i].run(j);
    job_problem(j, "%s: no such program in the guest", j->argv.v[0]);
    return 127;
}

/* ---- The language ---- */

enum token { END, WORD, NEXT, AND, OR, BEHIND, TO, APPEND, TO_ERR };

static enum token operator_of(const char **at)
{
    static const struct {
        const char *text;
        enum token token;
    } operators[] = {{">&2", TO_ERR}, {">>", APPEND}, {"&&", AND},   {"||", OR},
                     {";", NEXT},     {"\n", NEXT},   {"&", BEHIND}, {">", TO}};
    for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
        size_t n = strlen(operators[i].text);
        if (strncmp(*at, operators[i].text, n) == 0) {
            *at += n;
            return operators[i].token;
        }
    }
    return WORD;
}

/* The next one; a word's text is in `word`. */
static enum token next_token(const char **at, struct buf *word)
{
    buf_clear(word);
    while (**at == ' ')
        (*at)++;
    if (!**at)
        return END;
    enum token t = operator_of(at);
    char quote = '\0';
    for (; t == WORD && **at && (quote || !strchr(" ;&|>\n", **at)); (*at)++) {
        if (quote ? **at == quote : **at == '\'' || **at == '"')
            quote = quote ? '\0' : **at;
        else if (buf_append(word, *at, 1) < 0)
            return END;
    }
    return t;
}

static void redirect(struct job *j, bool append, struct buf *word)
{
    if (next_token(&j->rest, word) != WORD)
        return;
    j->to = append ? file_find(buf_cstr(word)) : NULL;
    if (!j->to)
        j->to = file_make(buf_cstr(word), 0644, false);
}

/* Reads a command; what ends it. */
static enum token read_command(struct job *j)
{
    CLEAN_BUF struct buf word = BUF_INIT(FRAME_MAX_PAYLOAD);
    for (;;) {
        enum token t = next_token(&j->rest, &word);
        if (t == WORD)
            (void)!msg_strings_add(&j->argv, strdup(buf_cstr(&word)));
        else if (t == TO || t == APPEND)
            redirect(j, t == APPEND, &word);
        else if (t == TO_ERR)
            j->channel = CHAN_ERR;
        else
            return t;
    }
}

static void forget_command(struct job *j)
{
    msg_strings_done(&j->argv);
    j->to = NULL;
    j->channel = CHAN_OUT;
    j->at = 0;
}

/* The next command that is to run now; false at the end. */
static bool next_command(struct job *j)
{
    while (*j->rest) {
        enum token before = j->before, end = read_command(j);
        bool wanted = before == AND ? j->status == 0 : before == OR ? j->status != 0 : true;
        j->before = end;
        if (j->argv.n && wanted && end != BEHIND)
            return true;
        if (j->argv.n && wanted)
            job_spawn(&j->argv, j->to);
        forget_command(j);
    }
    return false;
}

int shell_begin(struct job *j)
{
    const struct msg_strings *argv = &j->exec.argv;
    bool script = argv->n >= 3 && strcmp(argv->v[0], "sh") == 0 && strcmp(argv->v[1], "-c") == 0;
    if (!argv->n)
        return -EPROTO;
    j->rest = script ? argv->v[2] : "";
    for (size_t i = 0; !script && i < argv->n; i++)
        if (msg_strings_add(&j->argv, strdup(argv->v[i])) < 0)
            return -ENOMEM;
    return 0;
}

int shell_run(struct job *j)
{
    while (j->argv.n || next_command(j)) {
        int r = run_program(j);
        if (r == LATER)
            return LATER;
        j->status = r;
        forget_command(j);
    }
    return j->status;
}

void shell_done(struct job *j)
{
    msg_strings_done(&j->argv);
    msg_exec_done(&j->exec);
}
