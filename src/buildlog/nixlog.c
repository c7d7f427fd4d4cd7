#include "buildlog/nixlog.h"
#include "base/text.h"
#include "host/json.h"

#include <stdio.h>
#include <string.h>

enum {
    ACTIVITY_DOWNLOAD = 101,
    ACTIVITY_COPY_PATHS = 103,
    ACTIVITY_BUILDS = 104,
    ACTIVITY_BUILD = 105,
    RESULT_LOG_LINE = 101,
    RESULT_PROGRESS = 105,
    RESULT_EXPECTED = 106,
    LEVEL_ERROR = 0,
    LEVEL_WARN = 1,
};

#define MAX_COUNT 10000000

void nixlog_plain(char *text)
{
    text_drop_colors(text);
    text[text_clean(text, strlen(text), true)] = '\0';
}

/* ---- Activities ---- */

static struct nixlog_activity *find(struct nixlog *l, int64_t id)
{
    for (unsigned i = 0; i < l->n_activities; i++)
        if (l->activities[i].id == id)
            return &l->activities[i];
    return NULL;
}

static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

/* The name, or where another derivation of this log has it the name with the beginning of the store path's hash. */
static void choose_tag(struct nixlog *l, struct nixlog_activity *a)
{
    char name[96];
    nix_errors_short_name(a->derivation, name, sizeof(name));
    uint32_t h = hash(name);
    unsigned i = 0;
    while (i < l->n_tags && l->tags[i] != h)
        i++;
    const char *base = strrchr(a->derivation, '/');
    if (i < l->n_tags || l->n_tags == NIXLOG_TAGS)
        snprintf(a->tag, sizeof(a->tag), "%s@%.8s", name, base ? base + 1 : a->derivation);
    else
        snprintf(a->tag, sizeof(a->tag), "%s", name);
    if (l->n_tags < NIXLOG_TAGS)
        l->tags[l->n_tags++] = h;
}

static const char *first_field(json_object *o)
{
    json_object *fields;
    if (json_get_array(o, "fields", &fields, NULL) < 0 || json_object_array_length(fields) == 0)
        return NULL;
    json_object *first = json_object_array_get_idx(fields, 0);
    return json_object_is_type(first, json_type_string) ? json_object_get_string(first) : NULL;
}

static void on_start(struct nixlog *l, json_object *o, int64_t id, int64_t type)
{
    const char *what = first_field(o);
    bool matters = type == ACTIVITY_COPY_PATHS || type == ACTIVITY_BUILDS ||
                   (what && (type == ACTIVITY_BUILD || type == ACTIVITY_DOWNLOAD));
    if (!matters || l->n_activities == NIXLOG_ACTIVITIES || find(l, id))
        return;
    struct nixlog_activity *a = &l->activities[l->n_activities++];
    *a = (struct nixlog_activity){.id = id, .type = type};
    if (type == ACTIVITY_BUILD) {
        snprintf(a->derivation, sizeof(a->derivation), "%s", what);
        nixlog_plain(a->derivation);
        choose_tag(l, a);
        nixlog_plain(a->tag);
        l->ops->building(l->data, a->tag, a->derivation);
    } else if (type == ACTIVITY_DOWNLOAD) {
        const char *slash = strrchr(what, '/');
        snprintf(a->tag, sizeof(a->tag), "%s", slash && slash[1] ? slash + 1 : what);
        nixlog_plain(a->tag);
    }
    l->ops->changed(l->data);
}

static void on_stop(struct nixlog *l, int64_t id)
{
    struct nixlog_activity *a = find(l, id);
    if (!a)
        return;
    if (a->type == ACTIVITY_DOWNLOAD)
        l->fetched_before += a->done;
    size_t i = (size_t)(a - l->activities);
    memmove(a, a + 1, (--l->n_activities - i) * sizeof(*a)); /* the last one is the newest */
    l->ops->changed(l->data);
}

/* ---- Results ---- */

static uint64_t number(json_object *fields, size_t i, uint64_t max)
{
    int64_t v = json_object_get_int64(json_object_array_get_idx(fields, i));
    return v < 0 ? 0 : MIN_OF((uint64_t)v, max);
}

static void on_progress(struct nixlog *l, struct nixlog_activity *a, json_object *fields)
{
    if (json_object_array_length(fields) < 2)
        return;
    if (a->type == ACTIVITY_DOWNLOAD) {
        a->done = number(fields, 0, UINT32_MAX * 1024ull);
        l->counts.to_fetch = MAX_OF(l->counts.to_fetch, l->fetched_before + number(fields, 1, UINT32_MAX * 1024ull));
    } else if (a->type == ACTIVITY_BUILDS) {
        l->counts.built = (unsigned)number(fields, 0, MAX_COUNT);
        l->counts.to_build = MAX_OF(l->counts.to_build, (unsigned)number(fields, 1, MAX_COUNT));
    } else if (a->type == ACTIVITY_COPY_PATHS) {
        l->counts.copied = (unsigned)number(fields, 0, MAX_COUNT);
        l->counts.to_copy = MAX_OF(l->counts.to_copy, (unsigned)number(fields, 1, MAX_COUNT));
    }
    l->ops->changed(l->data);
}

static void on_result(struct nixlog *l, json_object *o, int64_t id, int64_t type)
{
    json_object *fields;
    struct nixlog_activity *a = find(l, id);
    if (json_get_array(o, "fields", &fields, NULL) < 0 || json_object_array_length(fields) == 0)
        return;
    if (type == RESULT_EXPECTED && number(fields, 0, MAX_COUNT) == ACTIVITY_DOWNLOAD)
        l->counts.to_fetch = MAX_OF(l->counts.to_fetch, number(fields, 1, UINT32_MAX * 1024ull));
    if (type == RESULT_PROGRESS && a)
        on_progress(l, a, fields);
    const char *line = type == RESULT_LOG_LINE ? first_field(o) : NULL;
    CLEAN_FREE char *text = line ? strdup(line) : NULL;
    if (!text)
        return;
    nixlog_plain(text);
    if (a && a->type == ACTIVITY_BUILD)
        nix_errors_line(&l->failure, a->derivation, text);
    l->ops->line(l->data, a ? a->tag : "", text);
}

/* ---- Messages ---- */

/* Nix repeats the builder's last lines in its error; in the error that the user sees they are there already. */
static void cut_repetition(char *text)
{
    char *more = strstr(text, "log lines:\n");
    char *end = more ? strstr(text, ";\n") : NULL;
    if (end && end < more)
        *end = '\0';
}

static void on_message(struct nixlog *l, json_object *o, int64_t level)
{
    const char *msg, *raw;
    if (level > LEVEL_WARN || json_get_string(o, "msg", &msg, NULL) < 0)
        return;
    CLEAN_FREE char *text = strdup(msg);
    CLEAN_FREE char *reason = strdup(json_get_string(o, "raw_msg", &raw, NULL) == 0 ? raw : msg);
    if (!text || !reason)
        return;
    nixlog_plain(text);
    nixlog_plain(reason);
    if (level == LEVEL_ERROR) {
        nix_errors_message(&l->failure, reason);
        cut_repetition(text);
    }
    l->ops->message(l->data, text);
}

bool nixlog_line(struct nixlog *l, const char *line, size_t len)
{
    static const char prefix[] = "@nix ";
    CLEAN_JSON json_object *o = NULL;
    const char *action;
    int64_t id = 0, type = 0, level = 0;
    if (len < sizeof(prefix) || strncmp(line, prefix, sizeof(prefix) - 1) != 0)
        return false;
    if (json_parse(line + 5, len - 5, &o, NULL) < 0 || json_get_string(o, "action", &action, NULL) < 0)
        return true;
    (void)!json_get_int(o, "id", &id, NULL);
    (void)!json_get_int(o, "type", &type, NULL);
    (void)!json_get_int(o, "level", &level, NULL);
    if (strcmp(action, "start") == 0)
        on_start(l, o, id, type);
    else if (strcmp(action, "stop") == 0)
        on_stop(l, id);
    else if (strcmp(action, "result") == 0)
        on_result(l, o, id, type);
    else if (strcmp(action, "msg") == 0)
        on_message(l, o, level);
    return true;
}

void nixlog_step(struct nixlog *l)
{
    for (unsigned i = 0; i < l->n_activities; i++)
        if (l->activities[i].type == ACTIVITY_DOWNLOAD)
            l->fetched_before += l->activities[i].done;
    l->n_activities = 0;
    l->failure = (struct nix_errors){0};
}

struct progress_build nixlog_counts(const struct nixlog *l)
{
    struct progress_build b = l->counts;
    b.current = "";
    b.fetched = l->fetched_before;
    for (unsigned i = 0; i < l->n_activities; i++) {
        b.fetched += l->activities[i].done;
        if (l->activities[i].tag[0])
            b.current = l->activities[i].tag;
    }
    b.to_fetch = MAX_OF(b.to_fetch, b.fetched);
    b.to_build = MAX_OF(b.to_build, b.built);
    b.to_copy = MAX_OF(b.to_copy, b.copied);
    return b;
}
