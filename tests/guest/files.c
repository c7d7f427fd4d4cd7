/* Files in memory, and copies of them in and out (src/wire/tree.h). */
#include "testguest.h"
#include "wire/tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_FILE (256u << 20)

static struct file *files, **last_file = &files; /* a folder before what is in it */

struct file *file_first(void)
{
    return files;
}

struct file *file_find(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    struct file *f = files;
    while (f && (strncmp(f->path, path, n) != 0 || f->path[n]))
        f = f->next;
    return f;
}

static bool has_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    CLEAN_FREE char *parent = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : NULL;
    struct file *f = parent ? file_find(parent) : NULL;
    return (f && f->folder) || strcmp(path, "/") == 0;
}

struct file *file_make(const char *path, unsigned mode, bool folder)
{
    struct file *f = file_find(path);
    if (f && f->folder != folder)
        return NULL;
    if (!f) {
        f = has_parent(path) ? calloc(1, sizeof(*f)) : NULL;
        if (!f)
            return NULL;
        f->path = strdup(path);
        f->data.max = MAX_FILE;
        f->folder = folder;
        *last_file = f;
        last_file = &f->next;
    }
    f->mode = mode;
    buf_done(&f->data);
    return f;
}

void file_remove(struct file *gone)
{
    struct file **p = &files;
    while (*p != gone)
        p = &(*p)->next;
    *p = gone->next;
    if (last_file == &gone->next)
        last_file = p;
    buf_done(&gone->data);
    free(gone->path);
    free(gone);
}

void files_begin(void)
{
    static const char *const folders[] = {"/", "/etc", "/root", "/run", "/tmp"};
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
        file_make(folders[i], 0755, true);
    struct file *f = file_make("/etc/passwd", 0644, false);
    (void)!buf_str(&f->data, "root:x:0:0:root:/root:/bin/sh\n");
}

/* ---- In ---- */

/* Where an entry goes: below the folder that was asked for, or in the place of its own first component. */
static void place(const struct job *j, const char *entry, char *out, size_t size)
{
    const char *path = j->transfer.path, *rest = strchr(entry, '/');
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (j->at)
        snprintf(out, size, "%.*s/%s", n == 1 ? 0 : (int)n, path, entry);
    else
        snprintf(out, size, "%.*s%s", (int)n, path, rest ? rest : "");
}

static int on_entry(struct job *j, const struct msg_entry *e)
{
    char path[ENTRY_MAX_PATH + 512];
    if (!j->left++) {
        struct file *f = file_find(j->transfer.path);
        j->at = f && f->folder;
    }
    place(j, e->path, path, sizeof(path));
    bool folder = e->kind == ENTRY_DIR;
    if (folder && file_find(path))
        return 0;
    if (e->kind == ENTRY_SYMLINK)
        return -EINVAL;
    j->file = file_make(path, (unsigned)e->mode & 0777, folder);
    if (!j->file) {
        job_problem(j, "cannot open %s: No such file or directory", path);
        return -ENOENT;
    }
    if (folder)
        return 0;
    if (buf_reserve(&j->file->data, e->size) < 0) {
        job_problem(j, "%s: No space left on device", e->path);
        return -ENOSPC;
    }
    memset(j->file->data.data, 0, e->size + 1);
    j->file->data.len = e->size;
    return 0;
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static int on_chunk(struct job *j, const uint8_t *p, size_t n)
{
    if (!j->file || n <= TREE_CHUNK_HEADER)
        return -EPROTO;
    uint64_t at = get_u64(p);
    size_t len = n - TREE_CHUNK_HEADER;
    if (at > j->file->data.len || len > j->file->data.len - at)
        return -EPROTO;
    if (tree_checksum(p + TREE_CHUNK_HEADER, len) != get_u64(p + 8)) {
        job_problem(j, "%s was damaged on its way", j->file->path);
        return -EBADMSG;
    }
    memcpy(j->file->data.data + at, p + TREE_CHUNK_HEADER, len);
    return 0;
}

void push_record(struct job *j, uint8_t chan, const void *p, size_t n)
{
    static struct msg_entry e;
    struct msg_reader r;
    int result = -EPROTO;
    if (chan == CHAN_TREE) {
        result = on_chunk(j, p, n);
    } else if (msg_open(&r, p, n) == 0 && r.type == MSG_END) {
        j->done = true;
        result = 0;
    } else if (r.type == MSG_ENTRY) {
        e = (struct msg_entry){0};
        result = msg_entry_decode(&e, p, n);
        if (result == 0)
            result = on_entry(j, &e);
    }
    if (result == 0)
        return;
    if (j->file && !j->file->folder)
        file_remove(j->file); /* half of one */
    j->file = NULL;
    if (!j->exit.problem[0])
        job_problem(j, "the tree cannot be understood");
    j->exit.code = 1;
    j->done = true;
}

int push_run(struct job *j)
{
    if (!j->in_ended)
        return LATER;
    if (j->file && !j->file->folder)
        file_remove(j->file);
    job_problem(j, "the tree ended early");
    return 1;
}

/* ---- Out ---- */

static bool is_below(const struct file *f, const char *top)
{
    size_t n = strlen(top);
    return strncmp(f->path, top, n) == 0 && f->path[n] == '/';
}

static void send_entry(struct job *j, const char *top)
{
    static struct msg_entry e;
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_PAYLOAD);
    const char *slash = strrchr(top, '/');
    e = (struct msg_entry){
        .kind = j->file->folder ? ENTRY_DIR : ENTRY_FILE, .mode = j->file->mode, .size = j->file->data.len};
    snprintf(e.path, sizeof(e.path), "%s", j->file->path + (slash ? slash + 1 - top : 0));
    if (msg_entry_encode(&b, &e) == 0)
        (void)!mux_send(channel, j->stream, CHAN_MSG, b.data, b.len);
}

static void send_chunk(struct job *j, uint64_t at)
{
    static uint8_t record[TREE_CHUNK_HEADER + TREE_MAX_CHUNK];
    size_t n = MIN_OF(j->file->data.len - at, (size_t)TREE_MAX_CHUNK);
    uint64_t sum = tree_checksum(j->file->data.data + at, n);
    memcpy(record, &at, 8);
    memcpy(record + 8, &sum, 8);
    memcpy(record + TREE_CHUNK_HEADER, j->file->data.data + at, n);
    (void)!mux_send(channel, j->stream, CHAN_TREE, record, TREE_CHUNK_HEADER + n);
    j->at += n;
}

/* The next step of the file that is being sent: `at` is 0 before its entry, then one more than what was sent. */
static void send_next(struct job *j, const char *top)
{
    if (j->at == 0) {
        send_entry(j, top);
        j->at = 1;
    } else if (j->at - 1 < j->file->data.len) {
        send_chunk(j, j->at - 1);
    } else {
        do
            j->file = j->file->next;
        while (j->file && !is_below(j->file, top));
        j->at = 0;
    }
}

int pull_run(struct job *j)
{
    const char *top = j->transfer.path, *slash = strrchr(top, '/');
    CLEAN_BUF struct buf end = BUF_INIT(64);
    if (!j->left++)
        j->file = file_find(top);
    if (!j->file && j->left == 1) {
        job_problem(j, "cannot read %s: No such file or directory", slash ? slash + 1 : top);
        return 1;
    }
    while (mux_can_send(channel, j->stream)) {
        if (j->file) {
            send_next(j, top);
            continue;
        }
        if (msg_begin(&end, MSG_END) == 0)
            (void)!mux_send(channel, j->stream, CHAN_MSG, end.data, end.len);
        return 0;
    }
    return LATER;
}
