/*
 * How progress looks: a line that is redrawn on a terminal, plain lines elsewhere, and with --json one JSON object a
 * line. All of it on standard error, because standard output belongs to the result. What is shown may quote a guest:
 * it is cleaned as a whole, before the colors.
 */
#include "base/clock.h"
#include "base/text.h"
#include "cli/cli.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BAR_CELLS    20u
#define REDRAW_EVERY (50 * 1000000ull)            /* ns, on a terminal */
#define TICK_EVERY   (200 * 1000000l)             /* ns, the clock on a terminal where nothing else happens */
#define END_FROM     (100 * 1000000ull)           /* ns: the end of a shorter phase is not worth a line */
#define PLAIN_EVERY  (5 * (uint64_t)NSEC_PER_SEC) /* between two plain lines about one build */

static unsigned screen_width(void)
{
    struct winsize ws;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 20 ? ws.ws_col : 80;
}

/* The line on the screen: a thread redraws it, so that its clock moves while a phase has nothing to say. */
static struct {
    bool ticking;
    char phase[32];
    char detail[480];
} shown;

/* What a phase is called where people read: the phases' names are for programs. A short one is told only once it has
 * ended, and only where it took long after all. */
static const struct words {
    const char *phase, *words;
    bool brief;
} phase_words[] = {
    {"judge", "looking at the builder image", true},
    {"cache", "looking for the image in the cache", true},
    {"downloading", "downloading a published image", false},
    {"stage0-packages", "fetching the packages that the builder is made of", false},
    {"stage0-image", "assembling a first builder from them", false},
    {"builder-image", "building the builder image", false},
    {"builder-start", "starting the builder", false},
    {"builder-stop", "stopping the builder", true},
    {"queue", "in the queue", true},
    {"stage", "sending the flake to the builder", true},
    {"eval", "evaluating the flake", false},
    {"build", "building", false},
    {"extract", "fetching the image from the builder", true},
    {"boot", "booting", false},
    {"boot-budget", "measuring a start of the image", false},
    {"exporting", "exporting the image", false},
    {"prepare", "preparing", false},
    {"measure", "measuring", false},
    {"start", "starting the VMs", false},
    {"stop", "stopping the VMs", true},
};

static struct words words_of(const char *phase)
{
    for (size_t i = 0; i < ARRAY_SIZE(phase_words); i++)
        if (strcmp(phase_words[i].phase, phase) == 0)
            return phase_words[i];
    return (struct words){phase, phase, false};
}

/* ---- Events ---- */

static json_object *new_event(const char *name)
{
    json_object *o = json_object_new_object();
    json_add_string(o, "event", name);
    return o;
}

static void text_event(const char *name, const char *text)
{
    json_object *o = new_event(name);
    json_add_string(o, "text", text);
    ui_event(o);
}

static void update_event(const char *phase, const char *detail)
{
    json_object *o = new_event(*detail ? "progress" : "phase");
    json_add_string(o, "phase", phase);
    if (*detail)
        json_add_string(o, "detail", detail);
    ui_event(o);
}

static void build_event(const char *phase, const struct progress_build *b)
{
    json_object *o = new_event("progress");
    json_add_string(o, "phase", phase);
    json_add_int(o, "built", b->built);
    json_add_int(o, "to_build", b->to_build);
    json_add_int(o, "copied_paths", b->copied);
    json_add_int(o, "paths_to_copy", b->to_copy);
    json_add_int(o, "fetched_bytes", (int64_t)b->fetched);
    json_add_int(o, "bytes_to_fetch", (int64_t)b->to_fetch);
    json_add_string(o, "current", b->current[0] ? b->current : NULL);
    ui_event(o);
}

/* ---- Lines ---- */

/* The lock is held. */
static void redraw(void)
{
    const char *phase = words_of(shown.phase).words, *detail = shown.detail;
    char line[512];
    unsigned width = MIN_OF(screen_width() - 1, (unsigned)sizeof(line) - 1);
    if (snprintf(line, width, "%s  %.1f s  %s", phase, (double)(clock_now() - ui.started) / 1e9, detail) < 0)
        return;
    text_one_line(line);
    fprintf(stderr, "\r\033[K%s%s%s", ui.color ? "\033[36m" : "", line, ui.color ? "\033[0m" : "");
    fflush(stderr);
    ui.line_width = (unsigned)strlen(line);
}

static void *tick(void *unused)
{
    const struct timespec pause = {.tv_nsec = TICK_EVERY};
    for (;;) {
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&ui_lock);
        if (ui.line_width)
            redraw();
        pthread_mutex_unlock(&ui_lock);
    }
    return NULL;
}

/* Signals are for the thread that works. Without the clock's thread the line is drawn where something happens. */
static void start_ticking(void)
{
    pthread_t thread;
    sigset_t all, before;
    shown.ticking = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, tick, NULL) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void draw(const char *phase, const char *detail)
{
    pthread_mutex_lock(&ui_lock);
    snprintf(shown.phase, sizeof(shown.phase), "%s", phase);
    snprintf(shown.detail, sizeof(shown.detail), "%.*s", (int)sizeof(shown.detail) - 1, detail);
    redraw();
    ui.drawn_at = clock_now();
    if (!shown.ticking)
        start_ticking();
    pthread_mutex_unlock(&ui_lock);
}

static void on_update(void *data, const char *phase, const char *detail)
{
    bool new_phase = strcmp(ui.phase, phase) != 0 || !*detail;
    if (new_phase) {
        snprintf(ui.phase, sizeof(ui.phase), "%s", phase);
        pthread_mutex_lock(&ui_lock);
        ui.started = ui.drawn_at = clock_now();
        pthread_mutex_unlock(&ui_lock);
    }
    if (ui.json) {
        update_event(phase, detail);
    } else if (ui.terminal) {
        draw(phase, detail);
    } else if (ui.verbose || (*detail && strcmp(phase, "queue") == 0) || (new_phase && !words_of(phase).brief)) {
        /* Plain lines: one where a phase begins, details only where asked for, or where somebody waits. */
        ui_say("%s%s%s", words_of(phase).words, *detail ? ": " : "", detail);
    }
}

static void on_end(void *data, const char *phase, uint64_t ns)
{
    uint64_t s = ns / NSEC_PER_SEC;
    if (ui.json || ui.terminal || ns < END_FROM)
        return;
    if (s < 120)
        ui_say("%s: %.1f s", words_of(phase).words, (double)ns / 1e9);
    else
        ui_say("%s: %u min %02u s", words_of(phase).words, (unsigned)(s / 60), (unsigned)(s % 60));
}

/* "[=====     ] 3/10 built, 4/6 copied, 12.3 MB fetched  hello" */
static void describe(const struct progress_build *b, bool bar, char *out, size_t size)
{
    char cells[BAR_CELLS + 1], copied[64] = "", fetched[64] = "";
    unsigned done = b->to_build ? (unsigned)((uint64_t)BAR_CELLS * b->built / b->to_build) : 0;
    for (unsigned i = 0; i < BAR_CELLS; i++)
        cells[i] = i < done ? '=' : ' ';
    cells[BAR_CELLS] = '\0';
    if (b->to_copy)
        snprintf(copied, sizeof(copied), ", %u/%u copied", b->copied, b->to_copy);
    if (b->fetched)
        snprintf(fetched, sizeof(fetched), ", %.1f MB fetched", (double)b->fetched / 1e6);
    snprintf(out, size, "%s%s%s%u/%u built%s%s%s%s", bar ? "[" : "", bar ? cells : "", bar ? "] " : "", b->built,
             b->to_build, copied, fetched, b->current[0] ? "  " : "", b->current);
}

static void on_build(void *data, const char *phase, const struct progress_build *b)
{
    char text[300];
    uint64_t since = clock_now() - ui.drawn_at;
    if (ui.json) {
        build_event(phase, b);
        return;
    }
    describe(b, ui.terminal && b->to_build > 1, text, sizeof(text));
    if (ui.terminal) {
        if (since >= REDRAW_EVERY)
            draw(phase, text);
    } else if (ui.verbose || since >= PLAIN_EVERY) {
        ui_say("%s: %s", words_of(phase).words, text);
        ui.drawn_at = clock_now();
    }
}

static void on_note(void *data, const char *line)
{
    if (ui.json) {
        text_event("note", line);
        return;
    }
    ui_say("%s", line);
}

static void on_verbose(void *data, const char *line)
{
    if (!ui.verbose)
        return;
    if (ui.json)
        text_event("log", line);
    else
        on_note(data, line);
}

const struct progress_ops ui_progress = {
    .update = on_update, .note = on_note, .verbose = on_verbose, .build = on_build, .end = on_end};
