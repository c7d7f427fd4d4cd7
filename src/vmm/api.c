#include "vmm/api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define REQUEST_MAX (32u * 1024)

void api_init(struct api *a, int fd, void *owner)
{
    *a = (struct api){.fd = fd, .owner = owner, .in = BUF_INIT(HTTP_ANSWER_MAX)};
}

static void drop(struct api *a, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++)
        buf_done(&a->calls[i].text);
    a->n -= n;
    memmove(&a->calls[first], &a->calls[first + n], (a->n - first) * sizeof(a->calls[0]));
}

void api_done(struct api *a)
{
    drop(a, 0, a->n);
    buf_done(&a->in);
}

void api_forget(struct api *a)
{
    if (a->n > 1)
        drop(a, 1, a->n - 1);
}

/* A socket that is read takes so little whole. */
static int send_first(struct api *a)
{
    const struct buf *b = &a->calls[0].text;
    ssize_t n = send(a->fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    return (size_t)n == b->len ? 0 : -EIO;
}

int api_call(struct api *a, const char *method, const char *path, json_object *body, api_answered *answered)
{
    CLEAN_JSON json_object *own = body;
    if (a->n == API_CALLS)
        return -EBUSY;
    a->calls[a->n].text = (struct buf)BUF_INIT(REQUEST_MAX);
    a->calls[a->n].answered = answered;
    snprintf(a->calls[a->n].path, sizeof(a->calls[a->n].path), "%s", path);
    int r = http_request(&a->calls[a->n].text, method, path,
                         own ? json_object_to_json_string_ext(own, JSON_C_TO_STRING_PLAIN) : NULL);
    a->n++;
    if (r == 0 && a->n == 1)
        r = send_first(a);
    if (r < 0)
        drop(a, a->n - 1, 1);
    return r;
}

/* What a refusal says: the words of Firecracker's "fault_message", vfkit's "error", or else the body's text. One
 * clause. */
static void read_problem(const struct http_answer *h, char out[static API_PROBLEM_MAX])
{
    static const char *const keys[] = {"fault_message", "error"};
    CLEAN_JSON json_object *o = NULL;
    const char *words = NULL;
    *out = '\0';
    if (h->status < 300)
        return;
    if (h->len && json_parse(h->body, h->len, &o, NULL) == 0)
        for (size_t i = 0; i < ARRAY_SIZE(keys) && !words; i++)
            (void)!json_get_string(o, keys[i], &words, NULL);
    if (words)
        snprintf(out, API_PROBLEM_MAX, "%s", words);
    else
        snprintf(out, API_PROBLEM_MAX, "status %u %.*s", h->status, (int)MIN_OF(h->len, (size_t)100),
                 (const char *)h->body);
    size_t n = strlen(out);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f)
            out[i] = ' ';
    while (n && (out[n - 1] == ' ' || out[n - 1] == '.'))
        out[--n] = '\0';
    if (n == 0) /* words that say nothing are a refusal all the same */
        snprintf(out, API_PROBLEM_MAX, "status %u", h->status);
}

bool api_input(struct api *a, const void *p, size_t n)
{
    struct http_answer h;
    ssize_t used;
    if (a->n == 0 || buf_append(&a->in, p, n) < 0)
        return false;
    while (a->n && a->in.len && (used = http_answer(&a->in, &h)) != 0) {
        char problem[API_PROBLEM_MAX], path[sizeof(a->calls[0].path)];
        if (used < 0)
            return false;
        api_answered *answered = a->calls[0].answered;
        read_problem(&h, problem);
        memcpy(path, a->calls[0].path, sizeof(path));
        buf_drop(&a->in, (size_t)used);
        answered(a->owner, path, problem); /* which may ask for more, or forget what was to follow */
        drop(a, 0, 1);
        if (a->n && send_first(a) < 0)
            return false; /* it has ended, which is heard of next */
    }
    return a->n > 0 || a->in.len == 0;
}
