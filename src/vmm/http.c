#include "vmm/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define STATUS_LINE "HTTP/1.1 "
#define NO_CONTENT  204

int http_request(struct buf *out, const char *method, const char *path, const char *body)
{
    int r = buf_printf(out, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", method, path);
    if (r == 0 && body)
        r = buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    if (r == 0)
        r = buf_str(out, "\r\n");
    return r == 0 && body ? buf_str(out, body) : r;
}

/* The decimal number that fills the text but for blanks around it; -EPROTO. */
static ssize_t parse_length(const char *p, const char *end)
{
    size_t n = 0;
    while (p < end && *p == ' ')
        p++;
    while (end > p && end[-1] == ' ')
        end--;
    if (p == end)
        return -EPROTO;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9' || n > HTTP_ANSWER_MAX)
            return -EPROTO;
        n = 10 * n + (size_t)(*p - '0');
    }
    return n > HTTP_ANSWER_MAX ? -EPROTO : (ssize_t)n;
}

static bool is_field(const char *line, const char *end, const char *name)
{
    size_t n = strlen(name);
    return (size_t)(end - line) > n && strncasecmp(line, name, n) == 0 && line[n] == ':';
}

/* The body's length as the head's fields say: -1 where they do not, -EPROTO. A body of unknown length is refused. */
static ssize_t read_fields(const char *p, const char *end)
{
    ssize_t length = -1;
    while (p < end) {
        const char *nl = memmem(p, (size_t)(end - p), "\r\n", 2);
        if (!nl || nl == p)
            return -EPROTO;
        if (is_field(p, nl, "Transfer-Encoding") || (is_field(p, nl, "Content-Length") && length >= 0))
            return -EPROTO;
        if (is_field(p, nl, "Content-Length") && (length = parse_length(strchr(p, ':') + 1, nl)) < 0)
            return -EPROTO;
        p = nl + 2;
    }
    return length;
}

static unsigned read_status(const char *p, const char *end)
{
    const size_t n = sizeof(STATUS_LINE) - 1;
    unsigned status = 0;
    if ((size_t)(end - p) < n + 3 || memcmp(p, STATUS_LINE, n) != 0)
        return 0;
    for (size_t i = n; i < n + 3; i++) {
        if (p[i] < '0' || p[i] > '9')
            return 0;
        status = 10 * status + (unsigned)(p[i] - '0');
    }
    return status >= 200 && status < 600 ? status : 0;
}

ssize_t http_answer(const struct buf *in, struct http_answer *ret)
{
    const char *text = (const char *)in->data;
    if (!text)
        return 0;
    const char *blank = memmem(text, in->len, "\r\n\r\n", 4);
    if (!blank)
        return in->len < HTTP_ANSWER_MAX ? 0 : -EPROTO;
    const char *fields = (const char *)memmem(text, in->len, "\r\n", 2) + 2;
    const size_t head = (size_t)(blank - text) + 4;
    *ret = (struct http_answer){.status = read_status(text, fields)};
    ssize_t length = fields < blank + 2 ? read_fields(fields, blank + 2) : -1;
    if (!ret->status || length == -EPROTO || memchr(text, '\0', head) || (length < 0 && ret->status != NO_CONTENT))
        return -EPROTO;
    ret->len = length < 0 ? 0 : (size_t)length;
    if (head + ret->len > HTTP_ANSWER_MAX)
        return -EPROTO;
    if (in->len - head < ret->len)
        return 0;
    ret->body = in->data + head;
    return (ssize_t)(head + ret->len);
}
