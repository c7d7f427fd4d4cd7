#include "flake/gitref.h"
#include "base/fd.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_REF    4096
#define MAX_PACKED (64u << 20)
#define MAX_LINKS  5
#define HEX        (GIT_REV_SIZE - 1)

bool git_is_rev(const char *s)
{
    return strspn(s, "0123456789abcdef") >= HEX;
}

/* "HEX refs/heads/name" lines; behind some of them "^HEX". */
static bool find_packed(const struct git_repo *g, const char *ref, char out[static GIT_REV_SIZE])
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_PACKED);
    CLEAN_FD int dir = open(g->common, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || path_read_file(dir, "packed-refs", &text, NULL) < 0)
        return false;
    size_t n = strlen(ref);
    for (const char *line = buf_cstr(&text), *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        if ((size_t)(end - line) != HEX + 1 + n || !git_is_rev(line) || memcmp(line + HEX + 1, ref, n) != 0)
            continue;
        snprintf(out, GIT_REV_SIZE, "%.*s", (int)HEX, line);
        return true;
    }
    return false;
}

static bool read_ref(const char *folder, const char *name, char out[static MAX_REF])
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_REF - 1);
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || buf_read(&text, fd, MAX_REF - 1) <= 0)
        return false;
    snprintf(out, MAX_REF, "%.*s", (int)strcspn(buf_cstr(&text), "\r\n"), buf_cstr(&text));
    return true;
}

/* What a ref leads to, over others that it names. */
static bool follow(const struct git_repo *g, const char *from, char out[static GIT_REV_SIZE])
{
    char name[MAX_REF], text[MAX_REF];
    snprintf(name, sizeof(name), "%s", from);
    for (unsigned i = 0; i < MAX_LINKS; i++) {
        if (!read_ref(g->git, name, text) && !read_ref(g->common, name, text))
            return find_packed(g, name, out);
        if (strncmp(text, "ref: refs/", 10) != 0) {
            snprintf(out, GIT_REV_SIZE, "%.*s", (int)HEX, text);
            return git_is_rev(text);
        }
        snprintf(name, sizeof(name), "%s", text + 5);
        if (!path_is_safe_relative(name))
            return false;
    }
    return false;
}

bool git_ref_head(const struct git_repo *g, char out[static GIT_REV_SIZE])
{
    return follow(g, "HEAD", out);
}

bool git_ref_find(const struct git_repo *g, const char *name, char out[static GIT_REV_SIZE])
{
    static const char *const forms[][2] = {{"", ""},
                                           {"refs/", ""},
                                           {"refs/tags/", ""},
                                           {"refs/heads/", ""},
                                           {"refs/remotes/", ""},
                                           {"refs/remotes/", "/HEAD"}};
    char full[MAX_REF];
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
        if ((size_t)snprintf(full, sizeof(full), "%s%s%s", forms[i][0], name, forms[i][1]) < sizeof(full) &&
            path_is_safe_relative(full) && follow(g, full, out))
            return true;
    return false;
}
