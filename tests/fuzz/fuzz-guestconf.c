/* Any bytes as guest.conf, and as /etc/passwd and /etc/group: refused with the line, or a configuration whose services
 * have plain names and whose environment has values. */
#include "base/path.h"
#include "fuzz.h"
#include "guest/conf.h"
#include "wire/msg.h"

#include <errno.h>
#include <string.h>

static void check_env(const struct msg_strings *env)
{
    for (size_t i = 0; i < env->n; i++)
        MUST(strchr(env->v[i], '='));
}

static void try_conf(const uint8_t *data, size_t size)
{
    struct guest_conf c;
    struct mvm_error err = MVM_ERROR_INIT;
    int r = conf_parse(&c, (const char *)data, size, &err);
    if (r < 0) {
        MUST((r == -EINVAL || r == -E2BIG || r == -ENOMEM) && err.msg[0] && c.n_services == 0);
        return;
    }
    check_env(&c.env);
    for (size_t i = 0; i < c.n_services; i++) {
        MUST(path_is_plain_name(c.services[i].name, 63));
        check_env(&c.services[i].env);
    }
    conf_done(&c);
}

static void try_user(const uint8_t *data, size_t size)
{
    struct user u;
    char *text = malloc(size + 1);
    MUST(text);
    memcpy(text, data, size);
    text[size] = '\0';
    char *group = strchr(text, '\f'); /* the user's name, passwd, group */
    char *passwd = strchr(text, '\n');
    if (group && passwd && passwd < group) {
        *passwd++ = *group++ = '\0';
        int r = user_find(&u, text, passwd, group);
        MUST(r == 0 || r == -ENOENT);
        if (r == 0)
            MUST(u.n_groups >= 0 && u.n_groups <= 32 && strnlen(u.name, sizeof(u.name)) < sizeof(u.name) &&
                 strnlen(u.home, sizeof(u.home)) < sizeof(u.home));
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    try_conf(data, size);
    try_user(data, size);
    return 0;
}
