#include "guest/conf.h"
#include "base/buf.h"
#include "base/path.h"
#include "guest/ready.h"
#include "wire/msg.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_SERVICES 64

/* ---- guest.conf ---- */

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A value with %XX decoded; NULL with *r set. */
static char *decode(const char *s, size_t n, int *r)
{
    char *out = malloc(n + 1), *to = out;
    *r = out ? 0 : -ENOMEM;
    for (size_t i = 0; out && i < n; i++) {
        if (s[i] != '%') {
            *to++ = s[i];
            continue;
        }
        int high = n - i > 2 ? hex_value(s[i + 1]) : -1;
        int low = n - i > 2 ? hex_value(s[i + 2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0)) {
            free(out);
            *r = -EINVAL;
            return NULL;
        }
        *to++ = (char)(high << 4 | low);
        i += 2;
    }
    if (out)
        *to = '\0';
    return out;
}

static bool parse_id(const char *s, unsigned *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(s, &end, 10);
    if (errno || end == s || *end || !isdigit((unsigned char)*s) || v >= UINT_MAX)
        return false;
    *ret = (unsigned)v;
    return true;
}

static int set_string(char **slot, char *text)
{
    free(*slot);
    *slot = text;
    return 0;
}

static int begin_service(struct guest_conf *c, char *name)
{
    struct service_conf *more = NULL;
    if (c->n_services < MAX_SERVICES && path_is_plain_name(name, 63))
        more = reallocarray(c->services, c->n_services + 1, sizeof(*more));
    if (!more) {
        free(name);
        return -EINVAL;
    }
    c->services = more;
    more[c->n_services++] = (struct service_conf){.name = name};
    return 0;
}

static int set_restart(struct service_conf *s, char *value)
{
    int r = 0;
    if (strcmp(value, "no") == 0)
        s->restart = RESTART_NO;
    else if (strcmp(value, "on-failure") == 0)
        s->restart = RESTART_ON_FAILURE;
    else if (strcmp(value, "always") == 0)
        s->restart = RESTART_ALWAYS;
    else
        r = -EINVAL;
    free(value);
    return r;
}

static int set_network(struct guest_conf *c, char *value)
{
    c->dhcp = strcmp(value, "dhcp") == 0;
    int r = c->dhcp || strcmp(value, "static") == 0 ? 0 : -EINVAL;
    free(value);
    return r;
}

/* notify, command (its words follow), or port N. */
static int set_ready(struct service_conf *s, char *text)
{
    CLEAN_FREE char *value = text;
    if (strcmp(value, "notify") == 0) {
        char *variable = NULL;
        s->ready = READY_NOTIFY;
        if (asprintf(&variable, "NOTIFY_SOCKET=" READY_NOTIFY_DIR "/%s", s->name) < 0)
            return -ENOMEM;
        return msg_strings_add(&s->env, variable);
    }
    if (strcmp(value, "command") == 0) {
        s->ready = READY_COMMAND;
        return 0;
    }
    s->ready = READY_PORT;
    return strncmp(value, "port ", 5) == 0 && parse_id(value + 5, &s->ready_port) && s->ready_port <= 65535 ? 0
                                                                                                            : -EINVAL;
}

/* Takes ownership of value. */
static int directive(struct guest_conf *c, const char *key, char *value)
{
    struct service_conf *s = c->n_services ? &c->services[c->n_services - 1] : NULL;
    if (strcmp(key, "hostname") == 0)
        return set_string(&c->hostname, value);
    if (strcmp(key, "network") == 0)
        return set_network(c, value);
    if (strcmp(key, "service") == 0)
        return begin_service(c, value);
    if (strcmp(key, "env") == 0 && strchr(value, '='))
        return msg_strings_add(s ? &s->env : &c->env, value);
    if (s && strcmp(key, "arg") == 0)
        return msg_strings_add(&s->argv, value);
    if (s && strcmp(key, "user") == 0)
        return set_string(&s->user, value);
    if (s && strcmp(key, "cwd") == 0)
        return set_string(&s->cwd, value);
    if (s && strcmp(key, "restart") == 0)
        return set_restart(s, value);
    if (s && strcmp(key, "ready") == 0)
        return set_ready(s, value);
    if (s && strcmp(key, "ready-arg") == 0)
        return msg_strings_add(&s->ready_argv, value);
    free(value);
    return -EINVAL;
}

int conf_parse(struct guest_conf *c, const char *text, size_t len, struct mvm_error *err)
{
    unsigned number = 0;
    *c = (struct guest_conf){0};
    for (const char *line = text, *end = text + len; line < end;) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        size_t n = nl ? (size_t)(nl - line) : (size_t)(end - line);
        number++;
        const char *space = memchr(line, ' ', n);
        char key[16] = "";
        int r = 0;
        if (n && *line != '#') {
            size_t key_len = space ? (size_t)(space - line) : n;
            if (!space || key_len >= sizeof(key)) {
                r = -EINVAL;
            } else {
                memcpy(key, line, key_len);
                char *value = decode(space + 1, n - key_len - 1, &r);
                if (value)
                    r = directive(c, key, value);
            }
        }
        if (r < 0) {
            conf_done(c);
            return mvm_error_set(err, r, "guest.conf:%u: '%s' is not understood", number, key);
        }
        line += n + 1;
    }
    return 0;
}

void conf_done(struct guest_conf *c)
{
    free(c->hostname);
    msg_strings_done(&c->env);
    for (size_t i = 0; i < c->n_services; i++) {
        struct service_conf *s = &c->services[i];
        free(s->name);
        free(s->user);
        free(s->cwd);
        msg_strings_done(&s->argv);
        msg_strings_done(&s->env);
        msg_strings_done(&s->ready_argv);
    }
    free(c->services);
    *c = (struct guest_conf){0};
}

/* ---- Users, without NSS: a static program has none ---- */

/* The next line's fields, split at ':'; false at the end. Lines too long or with other counts are skipped. */
static bool next_line(const char **text, char *line, size_t size, char **fields, unsigned n_fields)
{
    while (**text) {
        size_t n = strcspn(*text, "\n");
        const char *start = *text;
        *text += n + ((*text)[n] == '\n');
        if (n >= size)
            continue;
        memcpy(line, start, n);
        line[n] = '\0';
        char *at = line;
        unsigned k = 0;
        while (k < n_fields && at)
            fields[k++] = strsep(&at, ":");
        if (k == n_fields)
            return true;
    }
    return false;
}

static bool is_member(char *members, const char *name)
{
    for (char *m = strsep(&members, ","); m; m = strsep(&members, ","))
        if (strcmp(m, name) == 0)
            return true;
    return false;
}

static void find_groups(struct user *u, const char *group)
{
    char line[4096], *f[4];
    unsigned gid;
    while (next_line(&group, line, sizeof(line), f, 4))
        if (u->n_groups < (int)ARRAY_SIZE(u->groups) && parse_id(f[2], &gid) && is_member(f[3], u->name))
            u->groups[u->n_groups++] = gid;
}

int user_find(struct user *u, const char *who, const char *passwd, const char *group)
{
    char line[1024], *f[7];
    unsigned number = 0, uid, gid;
    bool by_number = parse_id(who, &number);
    *u = (struct user){.home = "/"};
    while (next_line(&passwd, line, sizeof(line), f, 7)) {
        if (!parse_id(f[2], &uid) || !parse_id(f[3], &gid))
            continue;
        if (strcmp(f[0], who) != 0 && !(by_number && uid == number))
            continue;
        u->uid = uid;
        u->gid = gid;
        snprintf(u->name, sizeof(u->name), "%s", f[0]);
        snprintf(u->home, sizeof(u->home), "%s", *f[5] ? f[5] : "/");
        find_groups(u, group);
        return 0;
    }
    /* Root needs no file; neither does a bare number. */
    if (strcmp(who, "root") != 0 && !by_number)
        return -ENOENT;
    u->uid = u->gid = number;
    snprintf(u->name, sizeof(u->name), "%.32s", who);
    if (number == 0)
        strcpy(u->home, "/root");
    return 0;
}

int user_load(struct user *u, const char *who)
{
    CLEAN_BUF struct buf passwd = BUF_INIT(1u << 20);
    CLEAN_BUF struct buf group = BUF_INIT(1u << 20);
    (void)!path_read_file(AT_FDCWD, "/etc/passwd", &passwd, NULL);
    (void)!path_read_file(AT_FDCWD, "/etc/group", &group, NULL);
    return user_find(u, who, buf_cstr(&passwd), buf_cstr(&group));
}

int user_become(const struct user *u)
{
    if (u->uid == 0 && getuid() == 0)
        return 0;
    if (setgroups((size_t)u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
        return -errno;
    return 0;
}
