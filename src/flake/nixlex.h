/* The words of Nix's language, as Nix's own lexer has them (NixOS/nix, src/libexpr/lexer.l). Nothing is evaluated. */
#pragma once

#include "base/buf.h"

#include <stddef.h>

enum nix_token {
    NIX_END, /* of the text, or of what could be understood: Nix refuses such a file */
    NIX_NAME,
    NIX_STRING, /* without parts that are evaluated; also a URL without quotes */
    NIX_OPEN,   /* a bracket, "${", or a string with such a part in it, whose content is tokens as well */
    NIX_CLOSE,  /* of what was opened last */
    NIX_DOT,
    NIX_EQUALS,
    NIX_SEMICOLON,
    NIX_OTHER,
    NIX_TOO_DEEP, /* more than NIX_MAX_DEPTH are open */
};

#define NIX_MAX_DEPTH 500

struct nixlex {
    const char *at;
    struct buf text; /* of a name or string. Cut where it is longer than any path: such a one names nothing */
    size_t depth;
    char open[NIX_MAX_DEPTH]; /* '{', '(', '[', '$' for "${"; '"' or '\'' for one in such a string */
};

#define NIXLEX_INIT(text_)                                                                                             \
    {                                                                                                                  \
        .at = (text_), .text = BUF_INIT(16 * 1024)                                                                     \
    }
#define CLEAN_NIXLEX CLEANUP(nixlex_done)

void nixlex_done(struct nixlex *l);
enum nix_token nixlex_next(struct nixlex *l) MVM_MUST_CHECK;
