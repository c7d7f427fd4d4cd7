#include "buildlog/build_history.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FOLDER    "logs"
#define MAX_JSON  (64u << 10)
#define TRIES     100
#define SUFFIX    4 /* ".log" */
#define MAX_NAMES 10000

static int open_folder(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->cache_fd, FOLDER, err);
}

/* ---- The folder's names ---- */

static int is_log(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > SUFFIX && n - SUFFIX < BUILD_HISTORY_ID && path_is_plain_name(e->d_name, BUILD_HISTORY_ID + SUFFIX) &&
           strcmp(e->d_name + n - SUFFIX, ".log") == 0;
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*b)->d_name, (*a)->d_name);
}

static void free_names(struct dirent **list, int n)
{
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static void remove_log(int dirfd, const char *log)
{
    char json[BUILD_HISTORY_ID + 8];
    snprintf(json, sizeof(json), "%.*s.json", (int)(strlen(log) - SUFFIX), log);
    unlinkat(dirfd, json, 0);
    unlinkat(dirfd, log, 0);
}

static void sweep(int dirfd)
{
    struct dirent **list;
    uint64_t bytes = 0;
    int n = scandirat(dirfd, ".", &list, is_log, newest_first);
    if (n < 0)
        return;
    for (int i = 0; i < n; i++) {
        struct stat st;
        if (fstatat(dirfd, list[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            bytes += (uint64_t)st.st_size;
        if (i >= BUILD_HISTORY_KEEP || (i > 0 && bytes > BUILD_HISTORY_BYTES))
            remove_log(dirfd, list[i]->d_name);
    }
    free_names(list, n);
}

/* ---- One log ---- */

static int save(int dirfd, const struct build_history_entry *e, struct mvm_error *err)
{
    char name[BUILD_HISTORY_ID + 8];
    CLEAN_JSON json_object *o = json_object_new_object();
    json_add_int(o, "schema_version", 1);
    json_add_string(o, "flake", e->ref);
    json_add_string(o, "attr", e->attr);
    json_add_string(o, "status", e->status);
    json_add_string(o, "phase", e->phase);
    json_add_string(o, "kind", e->kind);
    json_add_string(o, "error", e->error);
    json_add_string(o, "derivation", e->derivation);
    json_add_int(o, "started_at", (int64_t)e->started_at);
    snprintf(name, sizeof(name), "%s.json", e->id);
    return json_save(dirfd, name, o, 0600, false, err);
}

/* "20261124T141555.123456-0123abcd", with "-2" and so on behind where that is taken. */
static int create(int dirfd, struct build_history_entry *e, const char *fingerprint)
{
    time_t seconds = (time_t)(e->started_at / NSEC_PER_SEC);
    unsigned us = (unsigned)(e->started_at % NSEC_PER_SEC / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char base[BUILD_HISTORY_ID - 8], name[BUILD_HISTORY_ID + 8], when[24];
    strftime(when, sizeof(when), "%Y%m%dT%H%M%S", &tm);
    snprintf(base, sizeof(base), "%s.%06u-%.8s", when, us % 1000000, fingerprint);
    for (int i = 1; i < TRIES; i++) {
        if (i == 1)
            snprintf(e->id, sizeof(e->id), "%s", base);
        else
            snprintf(e->id, sizeof(e->id), "%s-%d", base, i);
        snprintf(name, sizeof(name), "%s.log", e->id);
        int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd < 0 ? -errno : fd;
    }
    return -EEXIST;
}

int build_history_begin(struct home *h, struct build_history_entry *e, const char *fingerprint, struct mvm_error *err)
{
    CLEAN_FD int dir = open_folder(h, err);
    if (dir < 0)
        return dir;
    e->started_at = clock_wall();
    snprintf(e->status, sizeof(e->status), "unfinished");
    CLEAN_FD int fd = create(dir, e, fingerprint);
    if (fd < 0)
        return mvm_error_errno(err, fd, "cannot write the build's log");
    int r = save(dir, e, err);
    sweep(dir);
    return r < 0 ? r : TAKE_FD(fd);
}

void build_history_finish(struct home *h, struct build_history_entry *e, const struct mvm_error *why)
{
    const char *status = !why ? "ok" : why->code == -EINTR ? "interrupted" : "error";
    snprintf(e->status, sizeof(e->status), "%s", status);
    if (why) {
        snprintf(e->phase, sizeof(e->phase), "%s", mvm_phase_name(why->phase));
        snprintf(e->kind, sizeof(e->kind), "%s", why->kind);
        snprintf(e->error, sizeof(e->error), "%s", why->msg);
        snprintf(e->derivation, sizeof(e->derivation), "%s", why->derivation);
    }
    CLEAN_FD int dir = open_folder(h, NULL);
    if (dir >= 0)
        (void)!save(dir, e, NULL); /* the outcome itself is told elsewhere */
}

static void take(json_object *o, const char *key, char *out, size_t size)
{
    const char *value;
    if (json_get_string(o, key, &value, NULL) == 0)
        snprintf(out, size, "%s", value);
}

static void load(int dirfd, const char *log, struct build_history_entry *e)
{
    char name[BUILD_HISTORY_ID + 8];
    struct stat st;
    int64_t at = 0;
    CLEAN_JSON json_object *o = NULL;
    snprintf(e->id, sizeof(e->id), "%.*s", (int)(strlen(log) - SUFFIX), log);
    e->size = fstatat(dirfd, log, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
    snprintf(e->status, sizeof(e->status), "unfinished");
    snprintf(name, sizeof(name), "%s.json", e->id);
    if (json_load(dirfd, name, MAX_JSON, &o, NULL) < 0)
        return; /* the text is worth showing by itself */
    take(o, "flake", e->ref, sizeof(e->ref));
    take(o, "attr", e->attr, sizeof(e->attr));
    take(o, "status", e->status, sizeof(e->status));
    take(o, "phase", e->phase, sizeof(e->phase));
    take(o, "kind", e->kind, sizeof(e->kind));
    take(o, "error", e->error, sizeof(e->error));
    take(o, "derivation", e->derivation, sizeof(e->derivation));
    if (json_get_int(o, "started_at", &at, NULL) == 0)
        e->started_at = (uint64_t)at;
}

int build_history_list(struct home *h, struct build_history_entry **ret, size_t *ret_n, struct mvm_error *err)
{
    CLEAN_FD int dir = open_folder(h, err);
    if (dir < 0)
        return dir;
    struct dirent **list;
    int n = scandirat(dir, ".", &list, is_log, newest_first);
    if (n < 0)
        return mvm_error_errno(err, -errno, "cannot list the builds' logs");
    size_t kept = (size_t)MIN_OF(n, MAX_NAMES);
    struct build_history_entry *all = calloc(kept + 1, sizeof(*all));
    for (size_t i = 0; all && i < kept; i++)
        load(dir, list[i]->d_name, &all[i]);
    free_names(list, n);
    if (!all)
        return mvm_error_errno(err, -ENOMEM, "logs");
    *ret = all;
    *ret_n = kept;
    return 0;
}

int build_history_open_text(struct home *h, const char *id, struct mvm_error *err)
{
    char name[BUILD_HISTORY_ID + 8];
    CLEAN_FD int dir = open_folder(h, err);
    if (dir < 0)
        return dir;
    snprintf(name, sizeof(name), "%s.log", id);
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? mvm_error_errno(err, -errno, "cannot read the log %s", id) : fd;
}
