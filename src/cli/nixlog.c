/*
 * Nix's internal-json log: lines "@nix {...}". Activities of type 105 are builds, 104 counts them; result 101 is a line of a
 * builder's output, 105 a progress report. Source: Nix, src/libutil/logging.hh.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#define ACTIVITY_BUILDS 104
#define ACTIVITY_BUILD  105
#define RESULT_LOG_LINE 101
#define RESULT_PROGRESS 105
#define LEVEL_WARN      1

/* "/nix/store/<32 characters>-hello-image.drv" is "hello-image" to people. */
static void short_name(const char *text, char *out, size_t size)
{
    const char *store = strstr(text, "/nix/store/");
    const char *name = store && strlen(store) > 44 ? store + 44 : text;
    size_t n = strcspn(name, "'\" ");
    if (n > 4 && strncmp(name + n - 4, ".drv", 4) == 0)
        n -= 4;
    snprintf(out, size, "%.*s", (int)MIN_OF(n, size - 1), name);
}

static void show(struct nixlog *l)
{
    progress_detail(l->progress, "%u of %u built%s%s", l->done, MAX_OF(l->expected, l->done), l->n_building ? ", building " : "",
                    l->n_building ? l->names[l->n_building - 1] : "");
}

static void on_start(struct nixlog *l, json_object *o, int64_t id, int64_t type)
{
    const char *text = "";
    if (type != ACTIVITY_BUILD || l->n_building == ARRAY_SIZE(l->building))
        return;
    (void)!json_get_string(o, "text", &text, NULL);
    l->building[l->n_building] = id;
    short_name(text, l->names[l->n_building], sizeof(l->names[0]));
    progress_verbose(l->progress, "building %s", l->names[l->n_building]);
    l->n_building++;
    show(l);
}

static void on_stop(struct nixlog *l, int64_t id)
{
    for (unsigned i = 0; i < l->n_building; i++) {
        if (l->building[i] != id)
            continue;
        l->n_building--;
        l->building[i] = l->building[l->n_building];
        memcpy(l->names[i], l->names[l->n_building], sizeof(l->names[0]));
        l->done++;
        show(l);
        return;
    }
}

static void on_result(struct nixlog *l, json_object *o, int64_t type)
{
    json_object *fields;
    if (json_get_array(o, "fields", &fields, NULL) < 0)
        return;
    if (type == RESULT_LOG_LINE)
        progress_verbose(l->progress, "> %s", json_object_get_string(json_object_array_get_idx(fields, 0)));
    else if (type == RESULT_PROGRESS && json_object_array_length(fields) >= 2) {
        int64_t expected = json_object_get_int64(json_object_array_get_idx(fields, 1));
        if (expected > 0 && expected < 1000000 && l->n_building)
            l->expected = MAX_OF(l->expected, (unsigned)expected);
    }
}

static void on_line(struct nixlog *l, const char *line, size_t len)
{
    static const char prefix[] = "@nix ";
    CLEAN_JSON json_object *o = NULL;
    const char *action, *msg;
    int64_t id = 0, type = 0, level = 0;
    if (len < sizeof(prefix) || strncmp(line, prefix, sizeof(prefix) - 1) != 0) {
        progress_verbose(l->progress, "%.*s", (int)len, line);
        return;
    }
    if (json_parse(line + 5, len - 5, &o, NULL) < 0 || json_get_string(o, "action", &action, NULL) < 0)
        return;
    (void)!json_get_int(o, "id", &id, NULL);
    (void)!json_get_int(o, "type", &type, NULL);
    (void)!json_get_int(o, "level", &level, NULL);
    if (strcmp(action, "start") == 0)
        on_start(l, o, id, type);
    else if (strcmp(action, "stop") == 0)
        on_stop(l, id);
    else if (strcmp(action, "result") == 0)
        on_result(l, o, type);
    else if (strcmp(action, "msg") == 0 && level == LEVEL_WARN && json_get_string(o, "msg", &msg, NULL) == 0)
        progress_verbose(l->progress, "%s", msg);
}

void nixlog_lines(void *data, const char *lines, size_t len)
{
    while (len) {
        const char *nl = memchr(lines, '\n', len);
        size_t n = nl ? (size_t)(nl - lines) : len;
        on_line(data, lines, n);
        n += nl != NULL;
        lines += n;
        len -= n;
    }
}
