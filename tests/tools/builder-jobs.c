/*
 * Several jobs in one builder, for tests:
 *
 *   builder-jobs hold                          starts a builder, prints its name, keeps it until standard input ends
 *   builder-jobs submit NAME FLAKE ATTR LIMIT  runs a job in that builder, as `mvmctl build` does; its phases and log
 *                                              go to standard error, its outcome is one line on standard output
 */
#include "base/interrupt.h"
#include "base/path.h"
#include "builder/bootstrap.h"
#include "builder/flake.h"
#include "builder/job.h"
#include "builder/session.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_update(void *data, const char *phase, const char *detail)
{
    fprintf(stderr, "%s%s%s\n", phase, *detail ? ": " : "", detail);
}

static void on_line(void *data, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

static const struct progress_ops ops = {.update = on_update, .note = on_line, .verbose = on_line};

static int hold(struct home *h, struct mvm_error *err)
{
    CLEAN_SESSION struct session s = SESSION_INIT;
    struct progress p = PROGRESS_INIT(&ops, NULL);
    CLEAN_BUILDERCACHE_IMAGE struct buildercache_image image = BUILDERCACHE_IMAGE_INIT;
    struct bootstrap_report report = {0};
    int r = bootstrap_ensure(h, false, &p, &report, &image, err);
    const struct session_opts o = {.image = image.path};
    if (r == 0)
        r = session_start(&s, h, &o, &p, err);
    if (r < 0)
        return r;
    printf("%s\n", s.name);
    fflush(stdout);
    char c;
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    return 0;
}

static int submit(struct home *h, char **args, struct mvm_error *err)
{
    struct session s = SESSION_INIT;
    struct progress p = PROGRESS_INIT(&ops, NULL);
    struct flake_ref ref = {0};
    CLEAN_FLAKE_TREE struct flake_tree tree = {.root_fd = -1};
    struct flake_inputs inputs = {0};
    CLEAN_BUILDLOG struct buildlog log = BUILDLOG_INIT;
    CLEANUP(job_result_done) struct job_result result = {0};
    char stage[] = "/tmp/mvm-job.XXXXXX";
    log.progress = &p;
    s.home = h;
    int r = client_connect(h, args[0], &s.client, err);
    if (r == 0)
        r = flake_ref_parse(&ref, args[1], err);
    if (r == 0)
        r = flake_tree_load(&tree, &ref, h, err);
    struct job_opts o = {
        .ref = &ref,
        .tree = &tree,
        .inputs = &inputs,
        .attr = args[2],
        .system = "x86_64-linux",
        .offline = true,
        .max_jobs = (unsigned)atoi(args[3]),
        .stage_fd = mkdtemp(stage) ? path_open_dir(AT_FDCWD, stage, err) : -1,
        .log = &log,
    };
    if (r == 0)
        r = job_run(&s, &o, &p, &result, err);
    if (r == 0)
        printf("ok\n");
    else
        printf("[%s] %s\n", mvm_phase_name(err->phase), err->msg);
    (void)!path_remove_tree(AT_FDCWD, stage);
    client_free(s.client);
    flake_ref_done(&ref);
    return r;
}

int main(int argc, char **argv)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_HOME struct home h = HOME_INIT;
    if (argc > 1 && strcmp(argv[1], "--supervise") == 0) /* it starts builders as mvmctl does */
        return machine_supervise(argc - 2, argv + 2);
    interrupt_install();
    int r = home_open(&h, &err);
    if (r == 0 && argc == 2 && strcmp(argv[1], "hold") == 0)
        r = hold(&h, &err);
    else if (r == 0 && argc == 6 && strcmp(argv[1], "submit") == 0)
        r = submit(&h, argv + 2, &err);
    else if (r == 0)
        r = mvm_error_set(&err, -1, "builder-jobs hold | builder-jobs submit NAME FLAKE ATTR LIMIT");
    if (r < 0)
        fprintf(stderr, "builder-jobs: %s\n", err.msg);
    return r < 0;
}
