#include "release/download.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/interrupt.h"
#include "release/libcurl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONNECT_SECONDS 30
#define MAX_REDIRECTS   5
#define MAX_TRIES       16
#define PROGRESS_MS     100

/* One transfer: it goes to text, or to fd behind the bytes that are there. */
struct transfer {
    const struct download_opts *o;
    const struct libcurl *lib;
    struct progress *p;
    struct buf *text;
    int fd;
    uint64_t at, size; /* bytes there are, and may be */
    int failed;        /* -errno of our own side */
    long status;       /* HTTP's, 0: none */
    uint64_t told_at;
    CURL *curl;
    char why[CURL_ERROR_SIZE];
};

static void tell(struct transfer *t)
{
    uint64_t now = clock_now();
    if (t->fd < 0 || now - t->told_at < PROGRESS_MS * NSEC_PER_MSEC)
        return;
    t->told_at = now;
    progress_detail(t->p, "%s: %.1f of %.1f MB, %u%%", t->o->name, (double)t->at / 1e6, (double)t->size / 1e6,
                    (unsigned)(t->size ? t->at * 100 / t->size : 100));
}

static size_t on_data(char *data, size_t one, size_t n, void *user)
{
    struct transfer *t = user;
    if (n > t->size - t->at)
        t->failed = -EMSGSIZE;
    else
        t->failed = t->text ? buf_append(t->text, data, n) : fd_pwrite_all(t->fd, data, n, t->at);
    if (t->failed < 0)
        return 0;
    t->at += n;
    tell(t);
    return n;
}

static void set_options(struct transfer *t)
{
    CURL *c = t->curl;
    bool https = strncmp(t->o->url, "https:", 6) == 0;
    t->lib->easy_setopt(c, CURLOPT_URL, t->o->url);
    t->lib->easy_setopt(c, CURLOPT_PROTOCOLS_STR, https ? "https" : "file");
    t->lib->easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    t->lib->easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    t->lib->easy_setopt(c, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    t->lib->easy_setopt(c, CURLOPT_FAILONERROR, 1L);
    t->lib->easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    t->lib->easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)MIN_OF(CONNECT_SECONDS, t->o->stall_seconds));
    t->lib->easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    t->lib->easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)t->o->stall_seconds);
    t->lib->easy_setopt(c, CURLOPT_USERAGENT, "mvmctl");
    if (t->o->ca_file) {
        t->lib->easy_setopt(c, CURLOPT_CAINFO, t->o->ca_file);
        t->lib->easy_setopt(c, CURLOPT_CAPATH, NULL); /* these certificates, not those besides the system's */
    }
    t->lib->easy_setopt(c, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->at);
    t->lib->easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)(t->size - t->at));
    t->lib->easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    t->lib->easy_setopt(c, CURLOPT_WRITEDATA, t);
    t->lib->easy_setopt(c, CURLOPT_ERRORBUFFER, t->why);
}

/* Waits for the transfer and for the user's signal at once, which curl_easy_perform cannot. */
static int run(struct transfer *t, CURLM *m, CURLcode *ret)
{
    struct curl_waitfd interrupt = {.fd = interrupt_fd(), .events = CURL_WAIT_POLLIN};
    for (int running = 1; running;) {
        if (t->lib->multi_perform(m, &running) != CURLM_OK)
            return -EIO;
        if (interrupt_pending())
            return -EINTR;
        if (running && t->lib->multi_poll(m, &interrupt, interrupt.fd >= 0, 1000, NULL) != CURLM_OK)
            return -EIO;
    }
    int left;
    const struct CURLMsg *msg = t->lib->multi_info_read(m, &left);
    *ret = msg ? msg->data.result : CURLE_FAILED_INIT;
    return 0;
}

static int perform(struct transfer *t, CURLcode *ret)
{
    t->why[0] = '\0';
    t->failed = 0;
    t->status = 0;
    t->curl = t->lib->easy_init();
    CURLM *m = t->lib->multi_init();
    int r = t->curl && m ? 0 : -ENOMEM;
    if (r == 0)
        set_options(t);
    if (r == 0 && t->lib->multi_add_handle(m, t->curl) != CURLM_OK)
        r = -EIO;
    if (r == 0)
        r = run(t, m, ret);
    if (r == 0)
        t->lib->easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &t->status);
    if (m && t->curl)
        t->lib->multi_remove_handle(m, t->curl);
    t->lib->easy_cleanup(t->curl);
    t->lib->multi_cleanup(m);
    t->curl = NULL;
    return r < 0 ? r : t->failed;
}

/* ---- What failed ---- */

static int explain(const struct transfer *t, int r, CURLcode c, struct mvm_error *err)
{
    const char *why = t->why[0] ? t->why : t->lib->easy_strerror(c), *name = t->o->name;
    if (r == -EINTR)
        return mvm_error_set(err, r, "interrupted while downloading %s", name);
    if (r == -EMSGSIZE || c == CURLE_FILESIZE_EXCEEDED)
        return mvm_error_set(err, -EMSGSIZE, "%s is larger than the %llu bytes it may have", name,
                             (unsigned long long)t->size);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot keep %s", name);
    switch (c) {
    case CURLE_UNSUPPORTED_PROTOCOL:
        return mvm_error_set(err, -EPROTONOSUPPORT, "%s: the server redirects to another scheme than https", name);
    case CURLE_TOO_MANY_REDIRECTS:
        return mvm_error_set(err, -ELOOP, "%s: more than %d redirects", name, MAX_REDIRECTS);
    case CURLE_OPERATION_TIMEDOUT:
        return mvm_error_set(err, -ETIMEDOUT, "%s: nothing came for %u s", name, t->o->stall_seconds);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        mvm_error_set(err, -EACCES, "%s: the server is not who it should be: %s", name, why);
        mvm_error_hint(err, "a server with certificates of its own needs ca_file in config.toml's [images]");
        return -EACCES;
    case CURLE_FILE_COULDNT_READ_FILE:
    case CURLE_REMOTE_FILE_NOT_FOUND:
    case CURLE_HTTP_RETURNED_ERROR:
        return mvm_error_set(err, -ENOENT, "%s: it is not there: %s", name, why);
    default:
        return mvm_error_set(err, -EIO, "%s: %s", name, why);
    }
}

int download_text(const struct download_opts *o, struct buf *out, struct progress *p, struct mvm_error *err)
{
    struct transfer t = {.o = o, .lib = libcurl_load(err), .p = p, .text = out, .fd = -1, .size = out->max};
    if (!t.lib)
        return -ENOENT;
    CURLcode c = CURLE_OK;
    progress_detail(p, "%s", o->name);
    int r = perform(&t, &c);
    return r < 0 || c != CURLE_OK ? explain(&t, r, c, err) : 0;
}

/* The server does not go on from where the file ends: it knows no ranges, or its file is another. */
static bool cannot_resume(const struct transfer *t, CURLcode c, uint64_t from)
{
    return from > 0 && (t->status == 416 || c == CURLE_RANGE_ERROR || c == CURLE_BAD_DOWNLOAD_RESUME ||
                        c == CURLE_FILESIZE_EXCEEDED);
}

/* The connection broke in the middle. */
static bool broke(CURLcode c)
{
    return c == CURLE_PARTIAL_FILE || c == CURLE_RECV_ERROR || c == CURLE_GOT_NOTHING || c == CURLE_HTTP2 ||
           c == CURLE_HTTP2_STREAM;
}

static int begin_again(struct transfer *t, struct mvm_error *err)
{
    t->at = 0;
    return ftruncate(t->fd, 0) < 0 ? mvm_error_errno(err, -errno, "cannot keep %s", t->o->name) : 0;
}

int download_file(const struct download_opts *o, int fd, uint64_t size, struct progress *p, struct mvm_error *err)
{
    struct transfer t = {.o = o, .lib = libcurl_load(err), .p = p, .fd = fd, .size = size};
    struct stat st;
    if (!t.lib)
        return -ENOENT;
    if (fstat(fd, &st) < 0)
        return mvm_error_errno(err, -errno, "cannot keep %s", o->name);
    t.at = (uint64_t)st.st_size;
    int r = t.at > size ? begin_again(&t, err) : 0;
    bool began_again = false;
    for (int tries = 0; r == 0 && t.at < size; tries++) {
        CURLcode c = CURLE_OK;
        uint64_t from = t.at;
        r = perform(&t, &c);
        if (r == 0 && !began_again && cannot_resume(&t, c, from)) {
            began_again = true;
            r = begin_again(&t, err);
        } else if (r == 0 && c == CURLE_OK && t.at < size) {
            r = mvm_error_set(err, -ENODATA, "%s has %llu bytes where %llu are wanted", o->name,
                              (unsigned long long)t.at, (unsigned long long)size);
        } else if (r < 0 || (c != CURLE_OK && !(broke(c) && t.at > from && tries < MAX_TRIES))) {
            r = explain(&t, r, c, err);
        }
    }
    return r;
}
