#include "bench/shell_split.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Copies one word; *from ends behind it. False where a quote is left open. */
static bool take_word(const char **from, char **to)
{
    const char *s = *from;
    char quote = '\0';
    for (; *s && (quote || !strchr(" \t\n", *s)); s++) {
        if (quote ? *s == quote : *s == '\'' || *s == '"') {
            quote = quote ? '\0' : *s;
        } else if (*s == '\\' && s[1] && (!quote || (quote == '"' && strchr("\"\\", s[1])))) {
            *(*to)++ = *++s;
        } else {
            *(*to)++ = *s;
        }
    }
    *(*to)++ = '\0';
    *from = s;
    return !quote;
}

int shell_split(const char *text, char ***ret, struct mvm_error *err)
{
    /* Fewer words than characters, and the words are no longer than the text. */
    size_t len = strlen(text), n = 0;
    char **words = calloc(1, (len + 2) * sizeof(*words) + len + 2);
    if (!words)
        return mvm_error_errno(err, -ENOMEM, "command");
    char *to = (char *)(words + len + 2);
    for (text += strspn(text, " \t\n"); *text; text += strspn(text, " \t\n")) {
        words[n++] = to;
        if (!take_word(&text, &to)) {
            free(words);
            return mvm_error_set(err, -EINVAL, "a quote is left open");
        }
    }
    if (n == 0) {
        free(words);
        return mvm_error_set(err, -EINVAL, "it has no words");
    }
    *ret = words;
    return 0;
}
