/* A queue of requests to a VMM that is driven by HTTP: each is sent when the one before was answered. */
#pragma once

#include "host/json.h"
#include "vmm/http.h"

#define API_CALLS       24
#define API_PROBLEM_MAX 160

struct api;

/* The request was answered: problem is one clause, "" where it was carried out. */
typedef void api_answered(void *owner, const char *path, const char *problem);

struct api {
    int fd; /* borrowed, nonblocking */
    void *owner;
    struct buf in;
    struct {
        struct buf text;
        char path[64];
        api_answered *answered;
    } calls[API_CALLS];
    unsigned n; /* the first is under way */
};

void api_init(struct api *a, int fd, void *owner);
void api_done(struct api *a);
/* Takes ownership of body, which may be NULL. -errno where it is not taken: then `answered` is not called. */
int api_call(struct api *a, const char *method, const char *path, json_object *body,
             api_answered *answered) MVM_MUST_CHECK;
/* Forgets what was not sent yet: nobody hears of it. */
void api_forget(struct api *a);
/* False where that is no answer, or to nothing. */
bool api_input(struct api *a, const void *p, size_t n) MVM_MUST_CHECK;
