/* What all that is printed goes by: how, and the progress line that has to leave the screen before. */
#include "base/clock.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

pthread_mutex_t ui_lock = PTHREAD_MUTEX_INITIALIZER;
struct ui ui;

void ui_init(bool json, bool verbose)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    ui = (struct ui){.json = json, .verbose = verbose, .born = ui.born ? ui.born : clock_now()};
    ui.terminal = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    ui.color = ui.terminal && !(no_color && *no_color);
}

void ui_clear(void)
{
    pthread_mutex_lock(&ui_lock);
    if (ui.line_width)
        fputs("\r\033[K", stderr);
    ui.line_width = 0;
    fflush(stderr);
    pthread_mutex_unlock(&ui_lock);
}
